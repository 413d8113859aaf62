"""One transaction a request: dry runs, idempotency keys, waiting, and a database that goes away."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from shared.access_tokens import new_token, sha256
from shared.database import direct
from shared.schema import AccessToken
from shared.settings import ServiceSettings
from tests.shared.http_app import create
from tests.shared.test_http_requests import API, ids, problem
from tests.support.ports import free_port
from tests.support.postgres import Server
from tests.support.services import People, serving
from tests.support.waiting import until


@pytest.fixture
def app(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return create(ServiceSettings())[1]


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as anybody:
        anybody.headers.update(await People.of(app).add("ana"))
        yield anybody


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


async def test_a_dry_run_changes_nothing_however_it_is_asked_for(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    for value in ("true", "True", "1", "yes", "on", "t", "y"):
        answer = await client.post(f"{API}/things?dry_run={value}", json={"name": "x"}, headers=key("k"))
        assert (answer.status_code, answer.headers["x-dry-run"]) == (201, "true")
    assert await ids(admin) == []
    assert await admin.fetchval("SELECT count(*) FROM idempotent_requests") == 0
    for value in ("maybe", "2", "", "truetrue"):
        answer = await client.post(f"{API}/things?dry_run={value}", json={"name": "x"})
        problem(answer, 422, "validation_failed")
    # And it says what the change would have said: the database is asked, too.
    assert (await client.post(f"{API}/things?dry_run=false", json={"name": "x"}, headers=key("k"))).status_code == 201
    problem(await client.post(f"{API}/things?dry_run=true", json={"name": "x"}), 409, "conflict")


async def test_the_same_key_gives_the_same_answer(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    first = await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))
    again = await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"] == '"1"'
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for path, body in (("/things", {"name": "y"}), ("/things?x=1", {"name": "x"}), ("/things/slow", {"name": "x"})):
        problem(await client.post(API + path, json=body, headers=key("k")), 409, "idempotency_mismatch")
    assert await ids(admin) == ["x"]
    stored = await admin.fetchval("SELECT answer FROM idempotent_requests")
    assert b"ana" not in stored  # sealed: an answer may show a token once


async def test_what_a_user_was_answered_is_not_for_their_personal_tokens(
    client: httpx.AsyncClient, app: FastAPI, admin: asyncpg.Connection
) -> None:
    """Which may do less; and which may have leaked."""
    assert (await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))).status_code == 201
    tokens = [new_token() for _ in range(2)]
    async with app.state.core.sessions.begin() as session:
        for number, token in enumerate(tokens):
            session.add(
                AccessToken(
                    id=uuid4(),
                    user_id="ana",
                    name=str(number),
                    sha256=sha256(token),
                    scopes=["risk:edit"],
                    expires_at=datetime.now(UTC) + timedelta(hours=1),
                )
            )
    for token in tokens:
        headers = key("k") | {"Authorization": f"Bearer {token}"}
        problem(await client.post(f"{API}/things", json={"name": "x"}, headers=headers), 409, "conflict")
    by_token = key("k") | {"Authorization": f"Bearer {tokens[0]}"}
    answers = [await client.post(f"{API}/things", json={"name": "y"}, headers=by_token) for _ in range(2)]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]


async def test_keys_belong_to_a_caller(client: httpx.AsyncClient, app: FastAPI, admin: asyncpg.Connection) -> None:
    bo = await People.of(app).add("bo")
    assert (await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))).json()["by"] == "ana"
    assert (await client.post(f"{API}/things", json={"name": "y"}, headers=bo | key("k"))).json()["by"] == "bo"
    anonymous = await client.post(f"{API}/things", json={"name": "z"}, headers={"Authorization": "", **key("k")})
    problem(anonymous, 401, "invalid_token")


async def test_a_route_that_needs_no_caller_takes_no_notice_of_keys(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    for credentials in ({"Authorization": ""}, {"Authorization": "Basic YTpi"}, {}):
        for _ in range(2):
            answer = await client.post(f"{API}/open", headers=key("k") | credentials)
            assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)
    assert await admin.fetchval("SELECT count(*) FROM idempotent_requests") == 0


async def test_two_at_once_are_one(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    calls = (client.post(f"{API}/things/slow", json={"name": "x"}, headers=key("k")) for _ in range(5))
    answers = await asyncio.gather(*calls)
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b'{"name":"x"}')}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 4


async def test_a_failure_leaves_the_key_free(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    await client.post(f"{API}/things", json={"name": "x"})
    problem(await client.post(f"{API}/things", json={"name": "x"}, headers=key("k")), 409, "conflict")
    await admin.execute("DELETE FROM instance_types")
    assert (await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))).status_code == 201


async def test_answers_without_a_body_and_requests_without_one(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    await client.post(f"{API}/things", json={"name": "x"})
    for _ in range(3):
        # What `curl -X POST -d ''` sends.
        form = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "0"}
        answer = await client.post(f"{API}/things/x/touch", headers=key("k") | form)
        assert (answer.status_code, answer.content) == (204, b"")
    assert await admin.fetchval("SELECT version FROM instance_types") == 2


async def test_a_streamed_answer_is_not_kept(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    for _ in range(2):
        answer = await client.post(f"{API}/stream", headers=key("k"))
        assert (answer.text, "idempotent-replayed" in answer.headers) == ("one\ntwo\n", False)


async def test_odd_keys(client: httpx.AsyncClient) -> None:
    for odd in (b"", b"x" * 256, b"\xff\x00", b"a\tb"):
        answer = await client.post(f"{API}/things", json={"name": "x"}, headers={"Idempotency-Key": odd})
        problem(answer, 422, "validation_failed")


async def test_an_answer_sealed_under_another_secret_is_not_made_up(
    client: httpx.AsyncClient, app: FastAPI, admin: asyncpg.Connection
) -> None:
    await client.post(f"{API}/things", json={"name": "x"}, headers=key("k"))
    await admin.execute("UPDATE idempotent_requests SET answer = $1", os.urandom(64))
    problem(await client.post(f"{API}/things", json={"name": "x"}, headers=key("k")), 409, "idempotency_mismatch")


async def test_waiting_replaces_the_answer_and_its_failure_does_not_undo_the_change(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    assert (await client.post(f"{API}/things/waiting", json={"name": "x"})).json() == {"state": "settled"}
    answer = await client.post(f"{API}/things/waiting?fails=true", json={"name": "y"})
    assert (answer.status_code, answer.json()) == (200, {"state": "committed"})
    assert await ids(admin) == ["x", "y"]


async def test_the_answer_after_waiting_is_the_one_that_is_given_again(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    for patience in ("wait=settled&timeout=1", "wait=settled&timeout=9", "wait=none", ""):
        answer = await client.post(f"{API}/things/waiting?{patience}", json={"name": "x"}, headers=key("k"))
        assert answer.json() == {"state": "settled"}
        assert answer.headers.get("idempotent-replayed", "false") == ("true" if "=1" not in patience else "false")
    problem(
        await client.post(f"{API}/things/waiting?wait=none&x=1", json={"name": "x"}, headers=key("k")),
        409,
        "idempotency_mismatch",
    )
    for _ in range(2):  # a wait that failed leaves the first answer
        answer = await client.post(f"{API}/things/waiting?fails=true", json={"name": "y"}, headers=key("l"))
        assert answer.json() == {"state": "committed"}
    assert await ids(admin) == ["x", "y"]


async def test_without_the_database_every_answer_is_503_and_afterwards_all_is_well(server: Server) -> None:
    settings = ServiceSettings(
        database_url=server.postgres.url,
        secret_key=SecretStr(b64encode(os.urandom(32)).decode()),
        database_connections=6,
    )
    app = create(settings)[1]
    async with serving(app) as client:
        client.headers.update(await People.of(app).add("ana"))
        await client.post(f"{API}/things", json={"name": "x"})
        for round_ in range(2):
            under_way = asyncio.ensure_future(client.post(f"{API}/things/slow", json={"name": f"slow-{round_}"}))
            await asyncio.sleep(0.1)
            server.kill()
            for answer in (await client.get(f"{API}/things"), await client.post(f"{API}/things", json={"name": "y"})):
                problem(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            problem(await under_way, 503, "unavailable")
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            await server.start()
            answers = await asyncio.gather(*(client.get(f"{API}/things") for _ in range(10)))
            assert [answer.json()["items"] for answer in answers] == [["x"]] * 10


async def test_a_pool_that_is_used_up_is_503(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = create(ServiceSettings(database_connections=6))[1]
    async with serving(app) as client:
        core = app.state.core
        monkeypatch.setattr(core.engine.sync_engine.pool, "_timeout", 0.05)
        monkeypatch.setattr(direct, "_WAIT", 0.05)
        client.headers.update(await People.of(app).add("ana"))
        assert (await client.post(f"{API}/things", json={"name": "x"})).status_code == 201
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(core.engine.connect())
            problem(await client.get(f"{API}/things"), 503, "unavailable")
        async with core.direct.connection():  # the relay has the other
            problem(await client.post(f"{API}/things", json={"name": "y"}), 503, "unavailable")
        assert (await client.get(f"{API}/things")).status_code == 200


async def test_a_process_stops_at_once_even_without_the_database(server: Server) -> None:
    port = free_port()
    env = {
        **os.environ,
        "MOORAGE_DATABASE_URL": server.postgres.url,
        "MOORAGE_SECRET_KEY": b64encode(os.urandom(32)).decode(),
        "MOORAGE_PORT": str(port),
    }
    code = "from shared.service import run; from tests.shared.http_app import create; run('test', create)"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=env, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def ready() -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    return (await client.get("/readyz")).status_code == 200
                return False

            await until(ready, within=20)
            # Half a body, then gone: nobody is harmed.
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            await writer.drain()
            writer.close()
            assert (await client.get("/healthz")).status_code == 200
            server.kill()
            problem(await client.get(f"{API}/things"), 503, "unavailable")
        started = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 5
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
