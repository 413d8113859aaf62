"""The same promises with the bytes in a real S3 server instead of a folder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.registry.world import Registry, code, running_registry, sha256, tar
from tests.servers.s3 import S3, s3_server
from tests.support.waiting import until

DATA = bytes(range(256)) * 200_000
"""51 MB: several parts."""


@pytest.fixture
async def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3]:
    async with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
async def registry(environment: dict[str, str], tmp_path: Path, s3: S3) -> AsyncIterator[Registry]:
    settings = {"blob_store": "s3://models/registry", "collect_seconds": 0.1, "unused_blob_hours": 0}
    settings |= {"fetch_prefixes": "s3://models/public/"}
    async with running_registry(environment, tmp_path, **settings) as running:
        await running.make("/groups", {"id": "risk"})
        yield running


def _objects(s3: S3) -> list[Path]:
    return sorted(path for path in (s3.root / "models" / "registry").rglob("*") if path.is_file())


async def test_bytes_live_in_the_store_and_only_there(registry: Registry, s3: S3) -> None:
    model = tar({"model/MLmodel": b"flavors: {onnx: {}}\n", "model/model.onnx": DATA[:100_000]}, mode="w")
    for data in (DATA, model):
        while True:  # unneeded bytes are collected at once here
            uri = await registry.uploaded(data)
            made = await registry.call("POST", "/models/risk/churn/versions", {"artifact": uri}, by=registry.admin)
            if made.status_code == 201:
                break
    assert registry.files() == []
    path = f"/artifacts/{sha256(DATA)}"
    assert (await registry.call("GET", path, by=registry.admin)).content == DATA
    part = await registry.call("GET", path, by=registry.admin, headers={"Range": "bytes=20000000-20000009"})
    assert (part.status_code, part.content) == (206, DATA[20_000_000:20_000_010])
    # Again, and at once: nothing is stored twice.
    await asyncio.gather(*(registry.uploaded(DATA) for _ in range(3)))
    await until(lambda: len(_objects(s3)) == 2)
    imported = await registry.make("/models/risk/imported/mlflow", {"artifact": f"registry://{sha256(model)}"})
    assert imported["framework"] == "onnx"
    assert registry.files() == []
    assert (await registry.call("DELETE", "/models/risk/churn", by=registry.admin)).status_code == 204
    await until(lambda: len(_objects(s3)) == 1)


async def test_damaged_and_missing_objects_are_not_served(registry: Registry, s3: S3) -> None:
    while True:
        uri = await registry.uploaded(b"model one")
        made = await registry.call("POST", "/models/risk/churn/versions", {"artifact": uri}, by=registry.admin)
        if made.status_code == 201:
            break
    path = f"/artifacts/{sha256(b'model one')}"
    _objects(s3)[0].write_bytes(b"model 0ne")
    assert (await registry.call("GET", path, by=registry.admin)).status_code == 503
    await registry.uploaded(b"model one")
    assert (await registry.call("GET", path, by=registry.admin)).content == b"model one"
    s3.process.kill()
    away = await registry.call("GET", path, by=registry.admin)
    assert (away.status_code, code(away)) == (503, "unavailable")


async def test_objects_are_fetched_from_where_the_installation_opens_them(registry: Registry, s3: S3) -> None:
    for name in ("public", "private"):
        (s3.root / "models" / name).mkdir()
        (s3.root / "models" / name / "model.bin").write_bytes(DATA)
    fetched = await registry.call(
        "POST", "/artifacts/fetch", {"uri": "s3://models/public/model.bin"}, by=registry.admin
    )
    assert (fetched.status_code, fetched.json()["digest"]) == (201, sha256(DATA))
    for uri in (
        "s3://models/private/model.bin",
        "s3://models/public/absent",
        "s3://models/public/../private/model.bin",
    ):
        refused = await registry.call("POST", "/artifacts/fetch", {"uri": uri}, by=registry.admin)
        assert refused.status_code == 422, uri
