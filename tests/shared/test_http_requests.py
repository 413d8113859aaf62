"""Whatever a client sends, it gets a right answer or a problem document, never a 5xx, and nothing changes unasked."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from shared.http.bodies import LONGEST_BODY
from shared.settings import ServiceSettings
from tests.shared.http_app import create
from tests.support.services import People, serving

API = "/api/v1"


@pytest.fixture
def app(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return create(ServiceSettings())[1]


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as anybody:
        anybody.headers.update(await People.of(app).add("ana", groups=[("risk", "edit"), ("fun", "manage")]))
        yield anybody


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The document, checked against RFC 9457 and our own rules."""
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["type"] == f"/docs/errors#{code}"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["detail"]
    return dict(document)


async def ids(admin: asyncpg.Connection) -> list[str]:
    return [row["id"] for row in await admin.fetch("SELECT id FROM instance_types ORDER BY id")]


BAD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b'{"name": "x", "extra": {"a": NaN}}',
    b'{"name": "x", "extra": {"a": Infinity}}',
    b'{"name": "\xff"}',
    b'{"name": "x", "title": "\\ud800"}',
    b'{"name": "x", "note": "\\u0000"}',
    b'{"name": "x", "title": "\\u0000"}',
    b'{"name": "x", "extra": {"\\u0000": 1}}',
    b'{"name": "x", "title": "' + b"t" * 201 + b'"}',
    b'{"name": "x\\n"}',
    b'{"name": "x", "extra": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    b"[" * 100_000 + b"]" * 100_000,
    b'{"name": ' + b"1" * 5000 + b"}",
    b"{" + b",".join(b'"f%d": 1' % number for number in range(20_000)) + b', "name": "x"}',
]


async def test_bad_bodies(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    for body in BAD_BODIES:
        answer = await client.post(f"{API}/things", content=body, headers={"Content-Type": "application/json"})
        problem(answer, 422, "validation_failed")
        assert len(answer.content) < 20_000
    assert await ids(admin) == []


async def test_a_bad_field_is_named_by_a_json_pointer(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{API}/things", json={"name": "X", "a/b~c": 1})
    document = problem(answer, 422, "validation_failed")
    assert isinstance(document["errors"], list)
    assert {error["pointer"]: error["message"] for error in document["errors"]}["/a~1b~0c"] == "is not a known field"
    assert "/name" in {error["pointer"] for error in document["errors"]}
    assert "must be lower-case letters, digits and inner hyphens" in document["detail"]
    broken = await client.post(f"{API}/things", content=b'{"name" 1}', headers={"Content-Type": "application/json"})
    document = problem(broken, 422, "validation_failed")
    assert document["errors"][0]["pointer"] == ""
    assert document["detail"].startswith("the body: is not valid JSON")
    assert problem(await client.post(f"{API}/things", json=[1]), 422, "validation_failed")["errors"] == [
        {"pointer": "", "message": "must be a JSON object"}
    ]


async def test_a_body_that_says_it_is_no_json_is_told_what_to_say(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "text/json"):
        answer = await client.post(f"{API}/things", content=b'{"name": "x"}', headers={"Content-Type": kind})
        assert "Content-Type: application/json" in problem(answer, 415, "unsupported_media_type")["detail"]
    problem(await client.post(f"{API}/things", content=b'{"name": "x"}'), 415, "unsupported_media_type")
    assert await ids(admin) == []
    taken = ("application/json; charset=utf-8", "application/merge-patch+json", "Application/JSON")
    for number, kind in enumerate(taken):
        body = b'{"name": "x%d"}' % number
        assert (await client.post(f"{API}/things", content=body, headers={"Content-Type": kind})).status_code == 201


async def test_nesting_that_is_sane_and_unicode_come_through(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    deep: object = 1
    for _ in range(30):
        deep = {"a": [deep]}
    answer = await client.post(f"{API}/things", json={"name": "x", "title": "naïve 🐟", "extra": {"deep": deep}})
    assert answer.status_code == 201
    row = await admin.fetchrow("SELECT name, node_selector FROM instance_types")
    assert (row["name"], json.loads(row["node_selector"])) == ("naïve 🐟", {"deep": deep})


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 2**20
            yield b" " * 2**20

    for length in ({}, {"Content-Length": str(50 * 2**20)}):
        sent = 0
        headers = {"Content-Type": "application/json", **length}
        answer = await client.post(f"{API}/things", content=parts(), headers=headers)
        problem(answer, 413, "too_large")
        assert sent <= (0 if length else LONGEST_BODY + 2 * 2**20)


async def test_uploads_are_streamed_and_have_no_such_limit(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Content-Type": "application/octet-stream"}, {"Idempotency-Key": "k"}):
        answer = await client.post(f"{API}/uploads", content=b"x" * (LONGEST_BODY + 1), headers=headers)
        assert answer.json() == {"size": LONGEST_BODY + 1}


BAD_PATHS = [
    "/things/%00",
    "/things/x?number=99999999999999999999",
    "/things/x?number=" + "9" * 5000,
    "/counts/99999999999999999999",
    "/counts/-99999999999999999999",
    "/things?limit=0",
    "/things?limit=201",
    "/things?cursor=!!!",
    "/things?cursor=%00",
    "/things?cursor=bnVsbA",  # null
    "/things?cursor=WyJhIl0",  # ["a"]
    "/things?cursor=WyJhIiwiYiJd",  # ["a","b"]
    "/things?cursor=WzEsMl0",  # [1,2]
    "/things?cursor=WzEuNSwiYiJd",  # [1.5,"b"]
    "/things?cursor=W05hTiwiYiJd",  # [NaN,"b"]
    "/things?cursor=W3RydWUsImIiXQ",  # [true,"b"]
    "/things?cursor=WyIyMDI2LTAxLTAxIiwiYiJd",  # ["2026-01-01","b"]: no time zone
    "/things?cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwiXHUwMDAwIl0",  # …,"\u0000"
]


async def test_bad_paths_and_queries(client: httpx.AsyncClient) -> None:
    for path in BAD_PATHS:
        problem(await client.get(API + path), 422, "validation_failed")


async def test_odd_paths_are_looked_up_and_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/things/%ff", "/things/%ed%a0%80", "/things/%F0%9F%90%9F", "/things/'%20OR%201=1--"):
        assert (await client.get(API + path)).json() == {"count": 0}
    problem(await client.get("/nowhere"), 404, "not_found")
    problem(await client.get(f"{API}/things/"), 404, "not_found")


async def test_methods_that_are_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.put(f"{API}/things", json={})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    assert "GET, POST" in answer.json()["detail"]
    assert (await client.head(f"{API}/things")).status_code == 405


async def test_pages_are_whole_and_stable(client: httpx.AsyncClient) -> None:
    names = [f"thing-{number}" for number in range(7)]
    for name in names:
        await client.post(f"{API}/things", json={"name": name})
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await client.get(f"{API}/things?limit=3" + (f"&cursor={cursor}" if cursor else ""))).json()
        seen += page["items"]
        cursor = page["next"]
    assert seen == names


async def test_if_match(client: httpx.AsyncClient) -> None:
    async def answer(tag: str) -> httpx.Response:
        return await client.patch(f"{API}/things/x", headers={"If-Match": tag})

    assert (await client.patch(f"{API}/things/x")).status_code == 200
    for tag in ('"3"', "*", ' "2" , "3" '):
        assert (await answer(tag)).status_code == 200
    for tag in ('"2"', "3", 'W/"3"', "", '"'):
        assert problem(await answer(tag), 412, "version_conflict")["etag"] == '"3"'
    problem(await answer("x" * 201), 422, "validation_failed")


async def test_permissions(client: httpx.AsyncClient, app: FastAPI) -> None:
    assert (await client.get(f"{API}/groups/fun")).status_code == 200
    assert problem(await client.get(f"{API}/groups/risk"), 403, "permission_denied")["permission"] == "manage"
    problem(await client.get(f"{API}/groups/other"), 404, "not_found")
    admin = await People.of(app).add("root", admin=True)
    assert (await client.get(f"{API}/groups/other", headers=admin)).status_code == 200


async def test_who_is_not_known(client: httpx.AsyncClient, app: FastAPI, admin: asyncpg.Connection) -> None:
    for credentials in ("", "Bearer", "Bearer  ", "Basic YTpi", "Bearer x", "Bearer a.b.c", "bearer " + "x" * 100_000):
        answer = await client.get(f"{API}/groups/fun", headers={"Authorization": credentials})
        problem(answer, 401, "invalid_token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    await admin.execute("UPDATE users SET disabled = true WHERE id = 'ana'")
    problem(await client.get(f"{API}/groups/fun"), 401, "invalid_token")
    await admin.execute("DELETE FROM users WHERE id = 'ana'")
    problem(await client.get(f"{API}/groups/fun"), 401, "invalid_token")


async def test_a_token_does_not_pass_to_the_next_user_of_the_name(
    client: httpx.AsyncClient, admin: asyncpg.Connection
) -> None:
    assert (await client.get(f"{API}/groups/fun")).status_code == 200
    await admin.execute("DELETE FROM users WHERE id = $1", "ana")
    await admin.execute(
        "INSERT INTO users (id, display_name, admin, disabled, version) VALUES ('ana', '', true, false, 1)"
    )
    assert (await client.get(f"{API}/groups/fun")).status_code == 401


async def test_failures_are_told_in_our_words_and_change_nothing(
    client: httpx.AsyncClient, admin: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(how: str, status: int, code: str) -> dict[str, object]:
        given = await client.post(f"{API}/fail/{how}")
        assert "swordfish" not in given.text
        assert status != 503 or int(given.headers["retry-after"]) >= 1
        assert await admin.fetchval("SELECT count(*) FROM users WHERE id = 'ghost'") == 0
        assert (await client.get(f"{API}/groups/fun")).status_code == 200
        return problem(given, status, code)

    await answer("check", 500, "internal")
    assert "swordfish" not in capsys.readouterr().out  # the database quotes the row that it refuses
    await answer("mistake", 500, "internal")
    await answer("unique", 409, "conflict")
    await answer("reference", 409, "conflict")
    await answer("too-slow", 503, "unavailable")
    await answer("terminated", 503, "unavailable")
    await answer("goodbye", 503, "unavailable")
    await answer("surrogate", 403, "quota_exceeded")
    facts = await answer("quota", 403, "quota_exceeded")
    assert (facts["requested"], facts["limit"], facts["at"]) == (0.5, 4, "2026-01-01T00:00:00")


async def test_every_error_is_described_as_a_problem_document(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    answers = document["components"]["responses"].values()
    assert answers
    for answer in answers:
        (kind, body), *others = answer["content"].items()
        assert (kind, body["schema"], others) == (
            "application/problem+json",
            {"$ref": "#/components/schemas/Problem"},
            [],
        )
    schemas = document["components"]["schemas"]
    assert {"code", "detail", "request_id"} <= schemas["Problem"]["properties"].keys()
    assert "FieldError" in schemas


async def test_request_ids(client: httpx.AsyncClient, admin: asyncpg.Connection) -> None:
    answer = await client.post(f"{API}/things", json={"name": "x"}, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    for odd in ("a b", "x" * 129, '"', "é"):
        made = (await client.get(f"{API}/things", headers={"X-Request-Id": odd.encode()})).headers["x-request-id"]
        assert made != odd
        assert made.isalnum()
    events = await admin.fetch(
        "SELECT event->>'requestid' AS id FROM outbox UNION SELECT event->>'requestid' FROM bus_messages"
    )
    assert [row["id"] for row in events] == ["mine-1"]


async def test_a_session_is_of_no_use_once_its_request_is_over(client: httpx.AsyncClient, app: FastAPI) -> None:
    with pytest.raises(AssertionError):  # as httpx says of a stream that broke off
        await client.get(f"{API}/late")
    assert app.state.core.engine.pool.checkedout() <= 1  # the relay's


async def test_probes_and_metrics(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    await client.get(f"{API}/things/some-name")
    await client.request("BREW", f"{API}/things")
    metrics = (await client.get("/metrics")).text
    assert 'route="/things/{name}"' in metrics
    assert "some-name" not in metrics
    assert "BREW" not in metrics
    assert 'method="other"' in metrics


async def test_many_at_once_wait_for_a_connection_instead_of_failing(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get(f"{API}/things") for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
