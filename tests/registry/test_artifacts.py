"""Uploads and downloads: once by content, checked, bounded, and nothing left behind by what was refused."""

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3
from pydantic import ValidationError
from sqlalchemy import update

from shared.schema import Blob
from tests.registry.world import Registry, code, running_registry, sha256, tar

DATA = bytes(range(256)) * 5000
SMALL = DATA[:5000]


async def test_the_same_bytes_are_kept_once(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    answers = await asyncio.gather(*(registry.upload(DATA, by=by) for by in (ana, registry.admin) * 4))
    assert {answer.status_code for answer in answers} == {201}
    assert [a.json() for a in answers] == [
        {"uri": f"registry://{sha256(DATA)}", "digest": sha256(DATA), "size": len(DATA)}
    ] * 8
    assert [file.read_bytes() for file in registry.files()] == [DATA]


async def test_an_announced_digest_is_checked(registry: Registry) -> None:
    right, wrong = sha256(DATA), sha256(b"other")
    for headers, params in (({"X-Content-SHA256": wrong}, {}), ({}, {"digest": wrong})):
        answer = await registry.upload(DATA, headers=headers, params=params)
        assert code(answer) == "digest_mismatch"
    for bad in ("", "sha256:12", "md5:" + "0" * 64, "ü"):
        assert code(await registry.upload(DATA, params={"digest": bad})) == "validation_failed"
    both = await registry.upload(DATA, headers={"X-Content-SHA256": right[7:].upper()}, params={"digest": wrong})
    assert code(both) == "validation_failed"
    assert registry.files() == []
    assert (await registry.upload(DATA, headers={"X-Content-SHA256": right[7:].upper()})).status_code == 201


async def test_what_is_no_upload(registry: Registry) -> None:
    assert code(await registry.upload(b"")) == "validation_failed"
    for kind in ("multipart/form-data; boundary=x", "application/json"):
        assert code(await registry.upload(DATA, headers={"Content-Type": kind})) == "validation_failed"
    assert registry.files() == []


async def test_an_upload_over_the_limit_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    async with running_registry(environment, tmp_path, upload_limit="100kB") as registry:
        for content in (b"x" * 100_001, unannounced()):
            headers = {**registry.admin, "Content-Type": "application/octet-stream"}
            answer = await registry.http.post("/api/v1/artifacts", content=content, headers=headers)
            assert (answer.status_code, code(answer), answer.json()["limit"]) == (413, "too_large", 100_000)
        assert registry.files() == []
        assert (await registry.upload(b"x" * 100_000)).status_code == 201


async def test_a_full_disk_leaves_nothing(registry: Registry) -> None:
    with _files_at_most(500_000):
        answer = await registry.upload(DATA)
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert registry.files() == []
    assert (await registry.upload(DATA)).status_code == 201


async def test_uploads_leave_the_database_its_space(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    modes: set[int] = set()

    def usage(folder: Path) -> SimpleNamespace:
        """A disk with 1.5 MB above the floor."""
        modes.update(file.stat().st_mode & 0o777 for file in folder.iterdir())
        stored = sum(file.stat().st_size for file in registry.files())
        return SimpleNamespace(free=registry.settings.free_space_floor + 1_500_000 - stored)

    monkeypatch.setattr("services.registry.artifacts.store.shutil.disk_usage", usage)
    headers = {**registry.admin, "Content-Type": "application/octet-stream"}
    for content in (b"x" * 1_500_001, unannounced()):
        answer = await registry.http.post("/api/v1/artifacts", content=content, headers=headers)
        assert (answer.status_code, code(answer)) == (503, "unavailable")
        assert registry.files() == []
    assert (await registry.upload(b"x" * 1_500_000)).status_code == 201
    assert modes == {0o600}


async def test_a_dry_run_of_an_upload_is_refused(registry: Registry) -> None:
    answer = await registry.upload(DATA, params={"dry_run": "true"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "query/dry_run")
    assert registry.files() == []


async def test_download_by_token_in_ranges(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    bob = await registry.people.add("bob", groups=[("risk", "read")])
    sam = await registry.people.add("sam", groups=[("fraud", "manage")])
    path = f"/artifacts/{sha256(DATA)}"
    uri = await registry.uploaded(DATA, by=ana)
    assert (await registry.call("GET", path, by=ana)).content == DATA
    for stranger in (bob, sam):
        assert (await registry.call("GET", path, by=stranger)).status_code == 404
    # Whoever only knows the digest cannot open the bytes by naming it.
    stolen = await registry.call("POST", "/models/fraud/mine/versions", {"artifact": uri}, by=sam)
    assert code(stolen) == "validation_failed"
    await registry.make("/models/risk/churn/versions", {"artifact": uri}, by=ana)
    assert (await registry.call("GET", path, by=sam)).status_code == 404
    whole = await registry.call("GET", path, by=bob)
    assert (whole.content, whole.headers["etag"]) == (DATA, f'"{sha256(DATA)}"')
    part = await registry.call("GET", path, by=bob, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, DATA[1000:2000])
    rest = await registry.call("GET", path, by=bob, headers={"Range": f"bytes={len(DATA) - 5}-"})
    assert rest.content == DATA[-5:]
    beyond = await registry.call("GET", path, by=bob, headers={"Range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, code(beyond)) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(DATA)}"
    for bad in ("bytes=-", "bytes=9-1", "x", "rows=1-2", "bytes=a-b", "bytes=" + "0-0," * 500):
        ignored = await registry.call("GET", path, by=bob, headers={"Range": bad})
        assert (ignored.status_code, ignored.content) == (200, DATA), bad
    for bad in ("sha256:12", sha256(DATA).upper(), "sha256:" + "0" * 64, "..%2f..%2fetc%2fpasswd"):
        assert (await registry.call("GET", f"/artifacts/{bad}", by=bob)).status_code in (404, 422)


async def test_download_by_a_signed_link(registry: Registry) -> None:
    await registry.uploaded(DATA)
    digest, expires = sha256(DATA), int(time.time()) + 60
    sign = registry.core.vault.sign
    signature = sign(f"{digest} {expires}", purpose="pull")

    async def get(of: str, **query: object) -> int:
        answer = await registry.http.get(f"/api/v1/artifacts/{of}", params=query)  # no token
        assert answer.status_code != 200 or answer.content == DATA
        return answer.status_code

    assert await get(digest, expires=expires, signature=signature) == 200
    assert await get(digest, expires=expires + 1, signature=signature) == 401
    assert await get(digest, expires=expires) == 401
    assert await get(digest, signature=signature) == 401
    assert await get(digest, expires=expires, signature="ü" + signature[1:]) == 401
    assert await get(sha256(b""), expires=expires, signature=signature) == 401
    past = int(time.time()) - 1
    assert await get(digest, expires=past, signature=sign(f"{digest} {past}", purpose="pull")) == 401
    assert await get(digest, expires=expires, signature=sign(f"{digest} {expires}", purpose="other")) == 401
    assert await get(digest, expires=2**60, signature=signature) == 422
    assert await get(digest) == 401


@pytest.mark.parametrize("hashed_by", ["blake3", "sha256"])
async def test_damaged_bytes_are_not_served(registry: Registry, hashed_by: str) -> None:
    path = f"/artifacts/{sha256(SMALL)}"

    async def upload() -> None:
        assert (await registry.upload(SMALL)).status_code == 201
        if hashed_by == "sha256":  # as if they had come before the other was noted
            await registry.core.direct.fetch("UPDATE blobs SET blake3 = NULL")

    async def pull(**headers: str) -> int:
        answer = await registry.call("GET", path, by=registry.admin, headers=headers)
        assert answer.status_code == 503 or answer.content == (SMALL[5:10] if headers else SMALL)
        return answer.status_code

    async def damage(data: bytes) -> None:
        file = registry.files()[0]
        file.chmod(0o600)
        file.write_bytes(data)

    flipped = SMALL[:-1] + bytes([SMALL[-1] ^ 1])
    await upload()
    await damage(SMALL[:-1])
    assert await pull() == 503
    await upload()  # the same upload mends it
    assert await pull() == 200
    # Of the same length: only the digest says so.
    for file in registry.files():
        file.unlink()
    await upload()
    await damage(flipped)
    assert [await pull(), await pull(Range="bytes=5-9")] == [503, 503]
    for file in registry.files():
        file.unlink()
    await upload()
    assert [await pull(Range="bytes=5-9"), await pull()] == [206, 200]
    # A part is not served either, also when the whole has been right before.
    await damage(flipped)
    assert [await pull(Range="bytes=5-9"), await pull()] == [503, 503]
    assert (await registry.upload(SMALL)).status_code == 201
    [noted] = await registry.core.direct.fetch("SELECT blake3 FROM blobs")
    assert noted.blake3 == blake3(SMALL).hexdigest()


async def test_an_artifact_of_several_parts(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    parts = {"encoder": await registry.uploaded(b"one"), "head.v2": await registry.uploaded(b"two!")}
    version = await registry.make("/models/risk/churn/versions", {"artifact": parts})
    assert (version["artifact"], version["digest"], version["size"]) == (parts, None, 7)
    path = "/models/risk/churn/versions/1/artifact"
    assert (await registry.call("GET", f"{path}/head.v2", by=registry.admin)).content == b"two!"
    bare = await registry.call("GET", path, by=registry.admin)
    assert (bare.status_code, bare.json()["keys"]) == (422, ["encoder", "head.v2"])
    assert (await registry.call("GET", f"{path}/nope", by=registry.admin)).status_code == 404
    bob = await registry.people.add("bob", groups=[("risk", "read")])
    assert (await registry.call("GET", f"/artifacts/{sha256(b'one')}", by=bob)).content == b"one"


ELSEWHERE = (
    "s3://models/churn/model.tar.gz",
    "gs://models/churn",
    "https://example.org:8443/churn.onnx?version=3",
    "http://93.184.216.34/x",
    "hf://meta-llama/Llama-3.1-8B@main/model.safetensors",
    "hf://org/model",
    "pvc://models/churn/3",
    "nfs://nas.example.org/export/churn",
)


async def test_addresses_of_every_kind(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    path = "/models/risk/churn/versions"
    for uri in ELSEWHERE:
        version = await registry.make(path, {"artifact": uri})
        assert (version["artifact"], version["digest"], version["size"]) == (uri, None, None)
        pulled = await registry.call("GET", f"{path}/{version['number']}/artifact", by=registry.admin)
        assert pulled.status_code == 404
        assert uri in pulled.json()["detail"]
    parts = {"base": "hf://org/model", "head": await registry.uploaded(b"head"), "more": "s3://models/x"}
    version = await registry.make(path, {"artifact": parts})
    assert (version["artifact"], version["size"]) == (parts, None)
    number = version["number"]
    assert (await registry.call("GET", f"{path}/{number}/artifact/head", by=registry.admin)).content == b"head"
    assert (await registry.call("GET", f"{path}/{number}/artifact/base", by=registry.admin)).status_code == 404


async def test_addresses_that_lead_nowhere_or_astray(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    absent = f"registry://{sha256(b'never seen')}"
    for uri in (
        *(absent, "registry://sha256:12", "/etc/passwd", "nothing", "registry:x", "file:relative", "://"),
        *("s3://b", "s3://bucket", "s3://bucket/", "s3://BUCKET/x", "s3://bucket/a/../../x", "s3://bucket/%2e%2e/x"),
        *("gs://bucket/x?y", "hf://org", "hf://org/../x", "pvc://Claim/x", "pvc://claim/../x", "nfs://server"),
        *("https://", "https://user:password@example.org/x", "https://example.org:0/", "https://example.org:99999/"),
        *("https://[::1", "http://a/..", "https://example.org/x#y"),
    ):
        answer = await registry.call("POST", "/models/risk/churn/versions", {"artifact": uri}, by=registry.admin)
        assert (answer.status_code, code(answer)) == (422, "validation_failed"), uri
    for uri in (
        *("http://localhost/x", "http://127.0.0.1/x", "http://127.1/x", "http://0x7f000001/x", "http://2130706433/"),
        *("http://10.0.0.7/x", "http://169.254.169.254/latest/meta-data", "http://[::1]/x", "http://[fd00::1]/x"),
        *("http://[::ffff:127.0.0.1]/x", "http://[64:ff9b::7f00:1]/x", "http://0.0.0.0/x", "http://100.64.1.1/"),
        *("http://db.internal/x", "http://224.0.0.1/x", "file:///etc/passwd", "magic://x", "ftp://example.org/x"),
    ):
        for artifact in (uri, {"part": uri}):
            answer = await registry.call(
                "POST", "/models/risk/churn/versions", {"artifact": artifact}, by=registry.admin
            )
            assert code(answer) == "unsupported_scheme", uri
            assert "s3://" in answer.json()["supported"]


async def test_an_installation_says_where_artifacts_may_lie(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, artifact_prefixes="s3://models/, hf://") as registry:
        await registry.make("/groups", {"id": "risk"})
        path = "/models/risk/churn/versions"
        for uri in ("s3://models/x", "hf://org/model"):
            await registry.make(path, {"artifact": uri})
        for uri in ("s3://models-of-others/x", "s3://modelsx/y", "https://example.org/x", "nfs://nas/x"):
            answer = await registry.call("POST", path, {"artifact": uri}, by=registry.admin)
            assert (code(answer), answer.json()["supported"]) == (
                "unsupported_scheme",
                ["hf://", "registry://", "s3://models/"],
            )
    for bad in ("s3://models", "models/", "gopher://x/"):
        with pytest.raises(ValidationError):
            async with running_registry(environment, tmp_path, artifact_prefixes=bad):
                pass


async def test_files_only_below_allowed_folders(environment: dict[str, str], tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    (allowed / "folder").mkdir(parents=True)
    (allowed / "model one.bin").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(b"secret")
    (allowed / "out").symlink_to(tmp_path / "secret")
    (allowed / "loop").symlink_to(allowed / "loop")
    path = "/models/risk/churn/versions"
    async with running_registry(environment, tmp_path, file_folders=f"{allowed}:{tmp_path}/absent") as registry:
        await registry.make("/groups", {"id": "risk"})
        for inside in (
            tmp_path / "secret",
            allowed / "out",
            allowed / "loop",
            allowed / ".." / "secret",
            "/etc/passwd",
        ):
            answer = await registry.call("POST", path, {"artifact": f"file://{inside}"}, by=registry.admin)
            assert answer.status_code == 422, inside
        for tail in ("/x" * 900, "/%00", "/%FF", "?a=b"):
            uri = f"file://{allowed}{tail}"
            assert (await registry.call("POST", path, {"artifact": uri}, by=registry.admin)).status_code == 422
        version = await registry.make(path, {"artifact": f"file://{allowed}/model%20one.bin"})
        assert (version["digest"], version["size"]) == (None, len(DATA))
        assert (await registry.call("GET", f"{path}/1/artifact", by=registry.admin)).content == DATA
        assert (await registry.make(path, {"artifact": f"file://{allowed}/folder"}))["size"] is None
        assert (await registry.call("GET", f"{path}/2/artifact", by=registry.admin)).status_code == 422
        (allowed / "model one.bin").unlink()
        assert (await registry.call("GET", f"{path}/1/artifact", by=registry.admin)).status_code == 404


async def test_an_archive_is_examined_and_kept_as_it_came(registry: Registry) -> None:
    packed = tar({"model/weights.bin": DATA, "model/inference_service.py": b"class InferenceService: ..."})
    uri = await registry.uploaded(packed)
    assert uri == f"registry://{sha256(packed)}"
    evil = tar({"../../etc/cron.d/x": b"boo"})
    answer = await registry.upload(evil)
    assert code(answer) == "bad_archive"
    assert "leads out" in answer.json()["detail"]
    assert len(registry.files()) == 1


async def test_the_example_in_an_archive_is_shown_with_its_versions(registry: Registry) -> None:
    example = {"text": "it's", "rows": [[1, 2.5, None]]}
    packed = tar({"model/weights.bin": DATA, "model/example.json": json.dumps(example).encode()})
    with_example, plain = await registry.uploaded(packed), await registry.uploaded(DATA)
    await registry.make("/groups", {"id": "risk"})
    path = "/models/risk/churn/versions"
    for artifact, shown in ((with_example, example), (plain, None), ({"a": with_example}, None)):
        version = await registry.make(path, {"artifact": artifact})
        assert version["example"] == shown
        again = await registry.call("GET", f"{path}/{version['number']}", by=registry.admin)
        assert again.json()["example"] == shown
    # Bytes from before examples were looked for get theirs when they come again.
    async with registry.core.sessions.begin() as session:
        await session.execute(update(Blob).values(example=None))
    for _ in range(2):
        await registry.uploaded(packed)
        assert (await registry.call("GET", f"{path}/1", by=registry.admin)).json()["example"] == example


@contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    """A disk that is full: no file of this process may grow beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
