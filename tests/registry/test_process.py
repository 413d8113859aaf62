"""The registry's own process: uploads that are broken off, memory, other processes beside it, and whatever is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks

from shared.database import Sessions, create_engine, create_sessions
from tests.registry.process import begin_upload, registry_process
from tests.registry.world import sha256
from tests.support.services import People
from tests.support.waiting import until

EXAMPLES = 8
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
MIB = 1 << 20


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(database_url, application="test", connections=2)
    yield create_sessions(engine)
    await engine.dispose()


async def test_uploads_that_are_broken_off_leave_nothing(
    environment: dict[str, str], sessions: Sessions, tmp_path: Path
) -> None:
    root = await People(sessions).add("root", admin=True)
    half = b"x" * 3 * MIB
    async with registry_process(environment, tmp_path) as first:
        for abort in (True, False):  # a reset, and a connection that is closed early
            writer = await begin_upload(first, root, half, length=2 * len(half))
            if abort:
                writer.transport.abort()
            writer.close()
            await until(lambda: first.files() == [])
        assert "Traceback" not in first.log.read_text()

        going_on = await begin_upload(first, root, half, length=2 * len(half))
        async with registry_process(environment, tmp_path) as second:
            assert len(second.files()) == 1  # another process takes nothing away from one that lives
        going_on.write(half)
        await until(lambda: [path.parent.parent.name for path in first.files()] == ["sha256"])
        going_on.close()

        killed = await begin_upload(first, root, half, length=2 * len(half))
        first.process.kill()
        await asyncio.to_thread(first.process.wait, 10)
        killed.transport.abort()
        assert len(first.files()) == 2
    async with registry_process(environment, tmp_path) as third:
        assert [path.stat().st_size for path in third.files()] == [2 * len(half)]


async def test_memory_is_constant_however_large_the_upload(
    environment: dict[str, str], sessions: Sessions, tmp_path: Path
) -> None:
    root = await People(sessions).add("root", admin=True)

    async def content(size: int) -> AsyncIterator[bytes]:
        for number in range(size):
            yield bytes([number % 251]) * MIB

    async with registry_process(environment, tmp_path) as registry:
        headers = {**root, "Content-Type": "application/octet-stream"}
        peaks = []
        for size in (8, 96):
            answer = await registry.http.post("/api/v1/artifacts", content=content(size), headers=headers)
            assert answer.json()["size"] == size * MIB
            async with registry.http.stream(
                "GET", f"/api/v1/artifacts/{answer.json()['digest']}", headers=root
            ) as pulled:
                assert sum([len(chunk) async for chunk in pulled.aiter_bytes()]) == size * MIB
            peaks.append(registry.peak_memory())
        assert peaks[1] - peaks[0] < 24 * MIB


async def test_an_upload_goes_on_where_a_killed_registry_left_it(
    environment: dict[str, str], sessions: Sessions, tmp_path: Path
) -> None:
    root = await People(sessions).add("root", admin=True)
    data = bytes(range(256)) * 4096 * 5
    piece = {**root, "Content-Type": "application/partial-upload"}
    async with registry_process(environment, tmp_path) as first:
        begun = await first.http.post("/api/v1/artifacts/uploads", headers=root)
        path = begun.headers["location"]
        sent = await first.http.patch(path, content=data[: 2 * MIB], headers={**piece, "Upload-Offset": "0"})
        assert sent.status_code == 204
        head = [f"PATCH {path} HTTP/1.1", "Host: x", f"Content-Length: {3 * MIB}", "Upload-Offset: 2097152"]
        _, writer = await asyncio.open_connection("127.0.0.1", first.port)
        writer.write("\r\n".join([*head, *map(": ".join, piece.items()), "", ""]).encode() + data[2 * MIB : 4 * MIB])
        await writer.drain()

        async def further() -> bool:
            return int((await first.http.head(path, headers=root)).headers["upload-offset"]) > 2 * MIB

        await until(further)
        first.process.kill()
        await asyncio.to_thread(first.process.wait, 10)
        writer.transport.abort()
    async with registry_process(environment, tmp_path) as second:
        offset = int((await second.http.head(path, headers=root)).headers["upload-offset"])
        last = {**piece, "Upload-Offset": str(offset), "Upload-Complete": "?1"}
        done = await second.http.patch(path, content=data[offset:], headers=last)
        assert done.json()["digest"] == sha256(data)
        assert [path.stat().st_size for path in second.files()] == [len(data)]


async def test_a_pull_of_damaged_bytes_never_ends_well(
    environment: dict[str, str], sessions: Sessions, tmp_path: Path
) -> None:
    root = await People(sessions).add("root", admin=True)
    data = bytes(range(256)) * 4096 * 8
    async with registry_process(environment, tmp_path) as registry:
        headers = {**root, "Content-Type": "application/octet-stream"}
        await registry.http.post("/api/v1/artifacts", content=data, headers=headers)
        file = registry.files()[0]
        file.chmod(0o600)
        with file.open("r+b") as damaged:
            damaged.seek(100)
            damaged.write(b"x")
        path = f"/api/v1/artifacts/{sha256(data)}"
        async with registry.http.stream("GET", path, headers=root) as pulled:
            assert pulled.headers["content-length"] == str(len(data))
            with pytest.raises(httpx.RemoteProtocolError):
                await pulled.aread()
            assert pulled.num_bytes_downloaded < len(data)
        assert (await registry.http.get(path, headers=root)).status_code == 503
        await registry.http.post("/api/v1/artifacts", content=data, headers=headers)
        assert (await registry.http.get(path, headers=root)).content == data


async def test_the_openapi_document_is_kept(environment: dict[str, str], sessions: Sessions, tmp_path: Path) -> None:
    """Right and wrong requests, by an admin and a plain user, half of them about something that is there."""
    people = People(sessions)
    root = await people.add("root", admin=True)
    everybody = [root, await people.add("ana", groups=[("risk", "manage")])]
    async with registry_process(environment, tmp_path) as registry:
        headers = {**root, "Content-Type": "application/octet-stream"}
        upload = (await registry.http.post("/api/v1/artifacts", content=b"model", headers=headers)).json()
        for path, body in (
            ("/instance-types", {"id": "cpu-1", "cpu": 1, "memory": "1Gi"}),
            ("/models/risk/churn/versions", {"artifact": upload["uri"], "curves": {"loss": [[1, 2]]}}),
        ):
            assert (await registry.http.post(f"/api/v1{path}", json=body, headers=root)).status_code == 201
        there = {
            "group": "risk",
            "model": "churn",
            "number": 1,
            "name": "loss",
            "user": "ana",
            "instance_type": "cpu-1",
            "digest": upload["digest"],
        }
        await asyncio.to_thread(_fuzz, registry.url, everybody, there)
        assert "Traceback" not in registry.log.read_text()


def _fuzz(url: str, everybody: list[dict[str, str]], there: dict[str, Any]) -> None:
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) >= 30
    callers = st.sampled_from(everybody)
    # What is there stays there until the end.
    for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
        modes = [schemathesis.GenerationMode.POSITIVE]
        if operation.body or operation.path_parameters or operation.query:
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
        with contextlib.suppress(Unsatisfiable):
            _check(cases, callers, url=url, there=there)


def _check(
    cases: st.SearchStrategy[Any], callers: st.SearchStrategy[dict[str, str]], *, url: str, there: dict[str, Any]
) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases, headers=callers, known=st.booleans())
    def send(case: Any, headers: dict[str, str], known: bool) -> None:
        if known and isinstance(case.path_parameters, dict):
            case.path_parameters |= {name: there[name] for name in case.path_parameters.keys() & there.keys()}
        response = case.call(base_url=url, headers=headers)
        case.validate_response(response, checks=CHECKS)

    send()
