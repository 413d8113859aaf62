"""Resumable uploads: progress, broken connections, two at once, what is refused, and who may."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.registry.world import Headers, Registry, code, running_registry, sha256, tar

UPLOADS = "/artifacts/uploads"
DATA = bytes(range(256)) * 20_000
PARTIAL = {"Content-Type": "application/partial-upload"}


async def _begin(registry: Registry, *, by: Headers, **headers: str) -> str:
    answer = await registry.call("POST", UPLOADS, by=by, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == "0"
    return answer.headers["location"].removeprefix("/api/v1")


async def _send(
    registry: Registry, path: str, data: bytes, *, at: int, by: Headers, last: bool = False
) -> httpx.Response:
    headers = {**by, **PARTIAL, "Upload-Offset": str(at), "Upload-Complete": "?1" if last else "?0"}
    return await registry.http.patch(f"/api/v1{path}", content=data, headers=headers)


async def _progress(registry: Registry, path: str, *, by: Headers) -> tuple[str, str]:
    answer = await registry.call("HEAD", path, by=by)
    assert (answer.status_code, answer.headers["cache-control"]) == (204, "no-store")
    return answer.headers["upload-offset"], answer.headers["upload-complete"]


async def test_an_upload_in_parts_becomes_one_artifact(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    path = await _begin(registry, by=ana, **{"Upload-Length": str(len(DATA)), "X-Content-SHA256": sha256(DATA)})
    assert await _progress(registry, path, by=ana) == ("0", "?0")
    first = await _send(registry, path, DATA[:3_000_000], at=0, by=ana)
    assert (first.status_code, first.headers["upload-offset"], first.content) == (204, "3000000", b"")
    assert await _progress(registry, path, by=ana) == ("3000000", "?0")
    done = await _send(registry, path, DATA[3_000_000:], at=3_000_000, by=ana, last=True)
    artifact = {"uri": f"registry://{sha256(DATA)}", "digest": sha256(DATA), "size": len(DATA)}
    assert (done.status_code, done.json()) == (201, artifact)
    assert [file.read_bytes() for file in registry.files()] == [DATA]
    # Whoever did not get the last answer asks.
    assert await _progress(registry, path, by=ana) == (str(len(DATA)), "?1")
    asked = (await registry.call("GET", path, by=ana)).json()
    assert (asked["complete"], asked["offset"], asked["artifact"]) == (True, len(DATA), artifact)
    assert code(await _send(registry, path, b"more", at=len(DATA), by=ana)) == "upload_complete"
    await registry.make("/models/risk/churn/versions", {"artifact": artifact["uri"]}, by=ana)
    assert (await registry.call("DELETE", path, by=ana)).status_code == 204
    assert (await registry.call("GET", f"/artifacts/{sha256(DATA)}", by=ana)).content == DATA


async def test_what_arrived_before_a_break_is_kept(registry: Registry) -> None:
    path = await _begin(registry, by=registry.admin)

    async def breaks() -> AsyncIterator[bytes]:
        yield DATA[:2_500_000]
        raise ConnectionResetError

    headers = {**registry.admin, **PARTIAL, "Upload-Offset": "0"}
    with contextlib.suppress(ConnectionResetError):
        await registry.http.patch(f"/api/v1{path}", content=breaks(), headers=headers)
    offset = int((await _progress(registry, path, by=registry.admin))[0])
    assert offset == 2_500_000
    late = await _send(registry, path, DATA, at=0, by=registry.admin)
    assert (late.status_code, code(late), late.json()["offset"]) == (409, "offset_mismatch", offset)
    assert late.headers["upload-offset"] == str(offset)
    beyond = await _send(registry, path, b"", at=offset + 1, by=registry.admin, last=True)
    assert code(beyond) == "offset_mismatch"
    done = await _send(registry, path, DATA[offset:], at=offset, by=registry.admin, last=True)
    assert done.json()["digest"] == sha256(DATA)


async def test_of_two_that_append_at_once_one_goes_on(registry: Registry) -> None:
    path = await _begin(registry, by=registry.admin)
    pieces = [DATA[:1_500_000]] * 8
    answers = await asyncio.gather(*(_send(registry, path, piece, at=0, by=registry.admin) for piece in pieces))
    assert {answer.status_code for answer in answers} <= {204, 409}
    offset = int((await _progress(registry, path, by=registry.admin))[0])
    assert offset == 1_500_000
    rest = DATA[offset:]
    ends = [_send(registry, path, rest, at=offset, by=registry.admin, last=True) for _ in range(4)]
    finished = await asyncio.gather(*ends)
    assert [answer.json()["digest"] for answer in finished if answer.status_code == 201] in (
        [sha256(DATA)],
        [],
    )
    assert {answer.status_code for answer in finished} <= {201, 404, 409}
    assert [file.read_bytes() for file in registry.files()] == [DATA]


async def test_what_is_refused_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, upload_limit="1MB") as registry:
        admin = registry.admin
        evil = tar({"../../etc/cron.d/x": b"boo"})
        path = await _begin(registry, by=admin)
        assert code(await _send(registry, path, evil, at=0, by=admin, last=True)) == "bad_archive"
        assert (await registry.call("HEAD", path, by=admin)).status_code == 404
        path = await _begin(registry, by=admin, **{"X-Content-SHA256": sha256(b"other")})
        assert code(await _send(registry, path, b"this", at=0, by=admin, last=True)) == "digest_mismatch"
        path = await _begin(registry, by=admin)
        assert code(await _send(registry, path, b"", at=0, by=admin, last=True)) == "validation_failed"
        assert registry.files() == []
        # Too much: what is there stays, and can be given up.
        path = await _begin(registry, by=admin, **{"Upload-Length": "10"})
        assert code(await _send(registry, path, b"x" * 11, at=0, by=admin)) == "validation_failed"
        short = await _send(registry, path, b"x" * 9, at=0, by=admin, last=True)
        assert (code(short), short.headers["upload-offset"]) == ("offset_mismatch", "9")
        assert (await _send(registry, path, b"x", at=9, by=admin, last=True)).status_code == 201
        path = await _begin(registry, by=admin)
        assert code(await _send(registry, path, b"x" * 1_000_001, at=0, by=admin)) == "too_large"
        large = await registry.call("POST", UPLOADS, by=admin, headers={"Upload-Length": "1000001"})
        assert (code(large), large.json()["limit"]) == ("too_large", 1_000_000)
        assert (await registry.call("DELETE", path, by=admin)).status_code == 204
        assert len(registry.files()) == 1


async def test_headers_that_make_no_sense(registry: Registry) -> None:
    path = await _begin(registry, by=registry.admin)
    for bad in (
        {"Upload-Offset": "-1"},
        {"Upload-Offset": "x"},
        {"Upload-Offset": "9" * 40},
        {},
        {"Upload-Offset": "0", "Upload-Complete": "1"},
        {"Upload-Offset": "0", "Upload-Length": "-5"},
        {"Upload-Offset": "0", "Content-Type": "application/json"},
    ):
        headers = {**registry.admin, **PARTIAL, **bad}
        answer = await registry.http.patch(f"/api/v1{path}", content=b"x", headers=headers)
        assert answer.status_code == 422, (bad, answer.text)
    for name in ("nope", "0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11", "..%2f..%2fx"):
        answer = await registry.call("HEAD", f"{UPLOADS}/{name}", by=registry.admin)
        assert answer.status_code in (404, 422), name
    dry = await registry.call("POST", f"{UPLOADS}?dry_run=true", by=registry.admin)
    assert code(dry) == "validation_failed"
