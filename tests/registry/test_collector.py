"""Bytes that nobody needs go, and no others: whoever registers a version while the collector runs keeps them."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select, update

from shared.schema import BlobUpload, Deployment, Revision
from tests.registry.world import Registry, code, running_registry, sha256
from tests.support.waiting import until

VERSIONS = "/models/risk/churn/versions"
OFTEN = {"collect_seconds": 0.02, "unused_blob_hours": 0}


async def _gone(registry: Registry, data: bytes) -> None:
    async def answers() -> bool:
        answer = await registry.call("GET", f"/artifacts/{sha256(data)}", by=registry.admin)
        return answer.status_code == 404

    await until(answers)


async def test_only_what_nobody_needs_is_removed(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, **{**OFTEN, "unused_blob_hours": 1}) as registry:
        await registry.make("/groups", {"id": "risk"})
        whole, part, revised = [await registry.uploaded(data) for data in (b"whole", b"part", b"revised")]
        await registry.make(VERSIONS, {"artifact": whole})
        await registry.make(VERSIONS, {"artifact": {"a": part, "b": whole}})
        await registry.make(VERSIONS, {"artifact": revised})
        await registry.deploy("churn", group="risk", model="risk/churn/9")
        async with registry.core.sessions.begin() as session:
            uid = (await session.execute(select(Deployment.uid))).scalar_one()
            spec = {"versions": [{"number": 1, "model": "risk/churn/3", "digest": sha256(b"revised")}]}
            session.add(Revision(uid=uid, number=1, by="ana", action="create", spec=spec, stopped=False))
        # Its version is deleted, but one may roll back to the revision.
        assert (await registry.call("DELETE", f"{VERSIONS}/3", by=registry.admin)).status_code == 204
        await registry.uploaded(b"nobody's")
        await registry.uploaded(b"fresh")
        async with registry.core.sessions.begin() as session:
            old = update(BlobUpload).where(BlobUpload.digest != sha256(b"fresh"))
            await session.execute(old.values(at=BlobUpload.at - timedelta(hours=2)))
        await _gone(registry, b"nobody's")
        kept = [b"fresh", b"part", b"revised", b"whole"]
        await until(lambda: sorted(file.read_bytes() for file in registry.files()) == kept)
        assert (await registry.call("DELETE", "/models/risk/churn", by=registry.admin)).status_code == 204
        await _gone(registry, b"whole")
        await _gone(registry, b"part")
        assert sorted(file.read_bytes() for file in registry.files()) == [b"fresh", b"revised"]


async def test_a_version_that_is_registered_while_the_collector_runs_has_its_bytes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Uploads are unneeded at once here, so each registration races the collector. It may lose, and is told so; it
    never stands on bytes that are gone."""
    async with running_registry(environment, tmp_path, **OFTEN) as registry:
        await registry.make("/groups", {"id": "risk"})

        async def one(number: int) -> int | None:
            data = f"model {number}".encode()
            uri = await registry.uploaded(data)
            for _ in range(number % 4):
                await asyncio.sleep(0.005)
            made = await registry.call("POST", VERSIONS, {"artifact": uri}, by=registry.admin)
            if made.status_code == 422:
                assert "upload it" in made.json()["detail"]
                return None
            assert made.status_code == 201, made.text
            return int(made.json()["number"])

        won = []
        for _ in range(20):
            won += await asyncio.gather(*(one(number) for number in range(len(won), len(won) + 6)))
        assert None in won, "the collector never came first, so nothing was raced"
        assert any(won), "it always came first"
        for number in filter(None, won):
            pulled = await registry.call("GET", f"{VERSIONS}/{number}/artifact", by=registry.admin)
            assert pulled.status_code == 200, pulled.text


async def test_the_same_bytes_uploaded_again_and_again_while_the_collector_runs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with running_registry(environment, tmp_path, **OFTEN) as registry:
        await registry.make("/groups", {"id": "risk"})
        for _ in range(60):
            uri, again = await asyncio.gather(registry.uploaded(b"same"), registry.uploaded(b"same"))
            assert uri == again
        while True:
            uri = await registry.uploaded(b"same")
            made = await registry.call("POST", VERSIONS, {"artifact": uri}, by=registry.admin)
            if made.status_code == 201:
                break
            assert code(made) == "validation_failed"
        assert (await registry.call("GET", f"{VERSIONS}/1/artifact", by=registry.admin)).content == b"same"
        await until(lambda: [file.read_bytes() for file in registry.files()] == [b"same"])


async def test_what_crashes_have_left_goes_when_it_is_old(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, **{**OFTEN, "unused_blob_hours": 24}) as registry:
        uri = await registry.uploaded(b"kept")
        kept = registry.files()[0]
        begun = await registry.call("POST", "/artifacts/uploads", by=registry.admin)
        orphan, young = kept.with_name(f"{uri[-64:]}.0123456789ab"), kept.with_name(f"{'0' * 64}.0123456789ab")
        abandoned = registry.settings.blob_folder / "uploads" / uuid4().hex
        for file in (orphan, young, abandoned):
            file.write_bytes(b"left")
        long_ago = time.time() - 3 * 86400
        for file in (orphan, abandoned, kept):
            os.utime(file, (long_ago, long_ago))
        await until(lambda: not orphan.exists() and not abandoned.exists())
        assert kept.exists()
        assert young.exists()
        assert (await registry.call("HEAD", begun.headers["location"][7:], by=registry.admin)).status_code == 204


async def test_an_upload_that_nobody_goes_on_with_is_given_up(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, **OFTEN) as registry:
        begun = await registry.call("POST", "/artifacts/uploads", by=registry.admin)

        async def gone() -> bool:
            return (await registry.call("HEAD", begun.headers["location"][7:], by=registry.admin)).status_code == 404

        await until(gone)
        await until(lambda: registry.files() == [])
