"""Personal access tokens: their looks, how far they reach in each service, and that revoking them is at once."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from shared.access_tokens import PREFIX, is_token, new_token
from tests.gateway.envoy.harness import until
from tests.gateway.four import Four, running_four
from tests.gateway.world import Gateway

TOKENS = "/api/v1/access-tokens"
Headers = dict[str, str]


@pytest.fixture
async def four(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Four]:
    async with running_four(environment, tmp_path, monkeypatch) as running:
        yield running


async def make(gateway: Gateway, by: Headers, *scopes: str, name: str = "ci", **more: Any) -> httpx.Response:
    return await gateway.http.post(TOKENS, json={"name": name, "scopes": scopes, **more}, headers=by)


async def token(gateway: Gateway, by: Headers, *scopes: str, name: str = "ci") -> Headers:
    made = await make(gateway, by, *scopes, name=name)
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


async def test_a_token_from_beginning_to_end(gateway: Gateway, database_url: str) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    made = await make(gateway, ana, "risk:read")
    document = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"{TOKENS}/{document['id']}")
    assert is_token(document["token"])
    by = {"Authorization": f"Bearer {document['token']}"}
    me = (await gateway.http.get("/api/v1/me", headers=by)).json()
    assert (me["user"], me["groups"]) == ("ana", [{"group": "risk", "permission": "read"}])

    async def used() -> bool:
        listed = (await gateway.http.get(TOKENS, headers=ana)).json()["items"]
        assert "token" not in listed[0]
        return listed[0]["last_used_at"] is not None

    await gateway.app.state.core.last_uses.write()
    assert await used()
    connection = await asyncpg.connect(database_url)
    for table in ("access_tokens", "audit_entries", "outbox", "bus_messages"):
        assert document["token"] not in str(await connection.fetch(f"SELECT to_jsonb(t) FROM {table} t"))
    await connection.close()
    assert (await gateway.http.delete(made.headers["location"], headers=ana)).status_code == 204
    refused = await gateway.http.get("/api/v1/me", headers=by)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")
    assert (await gateway.http.get(made.headers["location"], headers=ana)).status_code == 404


async def test_its_scopes_leave_some_of_what_its_user_may_in_every_service(four: Four) -> None:
    gateway = four.gateway
    mia = await gateway.people.add("mia", groups=[("risk", "manage"), ("other", "edit")])
    reading = await token(gateway, mia, "*:read", name="reading")
    editing = await token(gateway, mia, "risk:edit", name="editing")
    beyond = await token(gateway, mia, "*:manage", "admin", name="beyond")
    root = await token(gateway, dict(four.root), "*:manage", name="no admin")
    power = await token(gateway, dict(four.root), "admin", name="power")
    deploy = {"id": "churn", "model": "risk/churn/1"}
    made = {"group": "risk", "name": "a-model"}
    quota = {"cpu": 1}
    expected = [
        (reading, "deployer", "POST", "/deployments", deploy, 403),
        (editing, "deployer", "POST", "/deployments", deploy, 201),
        (reading, "deployer", "GET", "/deployments/churn", None, 200),
        (reading, "metrics", "GET", "/deployments/churn/metrics", None, 200),
        (reading, "gateway", "GET", "/deployments/churn/clients", None, 200),
        (reading, "registry", "POST", "/models", made, 403),
        (editing, "registry", "POST", "/models", made, 201),
        (editing, "registry", "GET", "/groups/other", None, 404),
        (reading, "registry", "GET", "/groups/other", None, 200),
        (editing, "registry", "PUT", "/groups/risk/members/mia", {"permission": "manage"}, 403),
        (beyond, "registry", "PUT", "/groups/risk/members/root", {"permission": "read"}, 201),
        (beyond, "registry", "PUT", "/groups/risk/quota", quota, 403),
        (beyond, "gateway", "GET", "/users", None, 403),
        (root, "registry", "PUT", "/groups/risk/quota", quota, 403),
        (power, "registry", "PUT", "/groups/risk/quota", quota, 200),
    ]
    for by, service, method, path, body, status in expected:
        answer = await four.call(service, method, path, body, by=by)
        assert answer.status_code == status, (service, method, path, answer.text)


async def test_revoking_is_at_once_in_all_services(four: Four) -> None:
    async def statuses(by: Headers) -> set[int]:
        paths = {"gateway": "/me", "registry": "/groups", "deployer": "/deployments", "metrics": "/metrics"}
        calls = [four.call(service, "GET", path, by=by) for service, path in paths.items()]
        return {answer.status_code for answer in await asyncio.gather(*calls)}

    gateway = four.gateway
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    for end in (
        ("DELETE", "/access-tokens/{id}", None),
        ("PATCH", "/users/ana", {"disabled": True}),
        ("DELETE", "/users/ana", None),
    ):
        made = (await make(gateway, ana, "*:read")).json()
        by = {"Authorization": f"Bearer {made['token']}"}
        assert await statuses(by) == {200}
        method, path, body = end
        assert (await four.call("gateway", method, path.format(**made), body)).is_success
        assert await statuses(by) == {401}
        if method == "PATCH":
            await four.call("gateway", "PATCH", "/users/ana", {"disabled": False})
            await four.call("gateway", "DELETE", f"/access-tokens/{made['id']}")
            ana = await gateway.people.sign_in("ana")

    bob = await gateway.people.add("bob", groups=[("risk", "edit")])
    by = await token(gateway, bob, "*:edit")
    assert (await four.call("registry", "GET", "/groups/risk", by=by)).status_code == 200
    assert (await four.call("registry", "DELETE", "/groups/risk/members/bob")).status_code == 204
    assert (await four.call("registry", "GET", "/groups/risk", by=by)).status_code == 404


async def test_a_token_makes_no_further_credentials(gateway: Gateway) -> None:
    root = await gateway.people.add("root", admin=True)
    by = await token(gateway, root, "admin", "*:manage")
    for method, path, body in (
        ("POST", "/users", {"user": "eve", "admin": True}),
        ("PATCH", "/users/root", {"password": "a good password"}),
        ("PUT", "/me/password", {"current": "x" * 8, "new": "y" * 8}),
    ):
        refused = await gateway.http.request(method, f"/api/v1{path}", json=body, headers=by)
        assert (refused.status_code, refused.json()["permission"]) == (403, "sign-in"), path
    once = {"Idempotency-Key": "once"}
    assert (await make(gateway, root | once, "admin", name="another")).status_code == 201
    assert (await make(gateway, by | once, "admin", name="another")).status_code == 403  # nor is it told again
    entry = (await gateway.http.get("/api/v1/audit?outcome=denied", headers=root)).json()["items"][0]
    [_, own] = (await gateway.http.get(TOKENS, headers=by)).json()["items"]
    assert (entry["user"], entry["token"]) == ("root", own["id"])
    assert (await gateway.http.delete(f"{TOKENS}/{own['id']}", headers=by)).status_code == 204
    assert (await gateway.http.get(TOKENS, headers=by)).status_code == 401


async def test_whose_tokens_one_sees(gateway: Gateway) -> None:
    root = await gateway.people.add("root", admin=True)
    ana, bob = await gateway.people.add("ana"), await gateway.people.add("bob")
    id_ = (await make(gateway, ana, "*:read")).json()["id"]
    await make(gateway, bob, "*:read")

    async def seen(by: Headers, query: str = "") -> list[str]:
        return [each["user"] for each in (await gateway.http.get(f"{TOKENS}{query}", headers=by)).json()["items"]]

    assert await seen(root) == ["ana", "bob"]
    assert await seen(root, "?user=bob") == ["bob"]
    assert await seen(bob, "?user=ana") == ["bob"]
    page = (await gateway.http.get(f"{TOKENS}?limit=1&count=true", headers=root)).json()
    assert (page["total"], await seen(root, f"?cursor={page['next']}")) == (2, ["bob"])
    assert (await gateway.http.get(f"{TOKENS}/{id_}", headers=bob)).status_code == 404
    assert (await gateway.http.delete(f"{TOKENS}/{id_}", headers=bob)).status_code == 404
    assert (await gateway.http.delete(f"{TOKENS}/{id_}", headers=root)).status_code == 204


async def test_what_is_refused(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana")
    for body, pointer in (
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["everything"]}, "/scopes/0"),
        ({"scopes": ["admin:read"], "name": "no\nname"}, "/name"),
        ({"scopes": ["risk:read", "risk:edit"]}, "/scopes"),
        ({"scopes": ["*:read"], "expires_at": in_days(-1)}, "/expires_at"),
        ({"scopes": ["*:read"], "expires_at": in_days(400)}, "/expires_at"),
    ):
        answer = await gateway.http.post(TOKENS, json={"name": "ci", **body}, headers=ana)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text
    dry = await gateway.http.post(f"{TOKENS}?dry_run=true", json={"name": "ci", "scopes": ["*:read"]}, headers=ana)
    assert (dry.status_code, dry.json()["token"]) == (201, None)
    many = [make(gateway, ana, "*:read", name=f"t{number}") for number in range(52)]
    assert sorted(each.status_code for each in await asyncio.gather(*many)) == [201] * 50 + [409] * 2
    assert (await make(gateway, ana, "*:read", name="t0")).json()["code"] == "limit_reached"


async def test_it_expires(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana")
    made = await make(gateway, ana, "*:read", expires_at=in_days(1 / 86400))
    by = {"Authorization": f"Bearer {made.json()['token']}"}

    async def refused() -> bool:
        return (await gateway.http.get("/api/v1/me", headers=by)).status_code == 401

    await until(refused, what="the token has expired")


async def test_made_up_tokens_are_refused_and_the_database_is_not_asked(gateway: Gateway, database_url: str) -> None:
    good = new_token()
    body, check = good[len(PREFIX) : -6], good[-6:]
    wrong = ["", PREFIX, good[:-1], good + "0", f"{PREFIX}{body[::-1]}{check}", f"{PREFIX}{body}000000", good + "\x00"]
    assert is_token(good)
    assert not any(map(is_token, wrong[1:]))
    assert len({new_token() for _ in range(1000)}) == 1000
    assert zlib.crc32(body.encode()) < 62**6
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE access_tokens RENAME TO away")
    for each in (PREFIX, good[:-1], good + "0", f"{PREFIX}{body}000000"):
        answer = await gateway.http.get("/api/v1/me", headers={"Authorization": f"Bearer {each}"})
        assert (answer.status_code, json.loads(answer.text)["code"]) == (401, "invalid_token")
    await connection.execute("ALTER TABLE away RENAME TO access_tokens")
    await connection.close()
    answer = await gateway.http.get("/api/v1/me", headers={"Authorization": f"Bearer {good}"})
    assert answer.status_code == 401
