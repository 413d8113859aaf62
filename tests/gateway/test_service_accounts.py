"""Service accounts: client credentials at the token endpoint, rights by membership, an end that counts everywhere."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.gateway.four import Four, running_four
from tests.gateway.world import Gateway

ACCOUNTS = "/api/v1/service-accounts"
Headers = dict[str, str]


@pytest.fixture
async def root(gateway: Gateway) -> Headers:
    return await gateway.people.add("root", admin=True)


@pytest.fixture
async def four(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Four]:
    async with running_four(environment, tmp_path, monkeypatch) as running:
        yield running


async def make(gateway: Gateway, by: Headers, name: str = "nightly") -> str:
    """Its secret."""
    made = await gateway.http.post(ACCOUNTS, json={"name": name, "description": "trains"}, headers=by)
    assert (made.status_code, made.headers["location"]) == (201, f"{ACCOUNTS}/{name}"), made.text
    document = made.json()
    assert (document["client_id"], document["client_secret"][:8]) == (name, "moorsec_")
    return str(document["client_secret"])


async def sign_in(gateway: Gateway, secret: str, name: str = "nightly", **headers: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
    return await gateway.http.post("/api/v1/auth/token", data=form, headers=headers)


async def bearer(gateway: Gateway, secret: str) -> Headers:
    answer = await sign_in(gateway, secret)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_an_account_from_beginning_to_end(gateway: Gateway, root: Headers, database_url: str) -> None:
    secret = await make(gateway, root)
    answer = await sign_in(gateway, secret)
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "token_type", "expires_in"}
    assert answer.headers["cache-control"] == "no-store"
    me = await gateway.http.get("/api/v1/me", headers=await bearer(gateway, secret))
    assert (me.json()["user"], me.json()["admin"], me.json()["groups"]) == ("nightly", False, [])
    shown = (await gateway.http.get(f"{ACCOUNTS}/nightly", headers=root)).json()
    assert (shown["description"], shown["created_by"], shown["disabled"]) == ("trains", "root", False)
    assert shown["last_used_at"]
    assert "client_secret" not in shown
    assert (await gateway.http.get(f"{ACCOUNTS}?count=true", headers=root)).json()["total"] == 1
    connection = await asyncpg.connect(database_url)
    for table in ("users", "service_accounts", "audit_entries", "outbox", "bus_messages"):
        assert secret not in str(await connection.fetch(f"SELECT to_jsonb(t) FROM {table} t"))
    await connection.close()
    assert (await gateway.http.delete(f"{ACCOUNTS}/nightly", headers=root)).status_code == 204
    assert (await sign_in(gateway, secret)).status_code == 401
    assert (await gateway.http.get("/api/v1/users/nightly", headers=root)).status_code == 404
    found = (await gateway.http.get("/api/v1/audit?user=nightly", headers=root)).json()["items"]
    assert [(each["action"], each["outcome"]) for each in found] == [("create_token", "done")] * 2


async def test_as_http_basic(gateway: Gateway, root: Headers) -> None:
    secret = await make(gateway, root)
    form = {"grant_type": "client_credentials"}

    async def basic(credentials: bytes) -> httpx.Response:
        headers = {"Authorization": f"Basic {b64encode(credentials).decode()}"}
        return await gateway.http.post("/api/v1/auth/token", data=form, headers=headers)

    assert (await basic(f"nightly:{secret}".encode())).status_code == 200
    assert (await basic(f"nightl%79:{secret}".encode())).status_code == 200
    wrong = await basic(b"nightly:wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic")
    for odd in (b"", b"nightly", b"\xff:\xfe", b":", b"a:b:c", b"\x00:\x00", b"Not A Name:x"):
        assert (await basic(odd)).status_code in (400, 401)
    for header in ("Basic", "Basic !", "Basic é", "basic " + "A" * 5000):
        answer = await gateway.http.post("/api/v1/auth/token", data=form, headers={"Authorization": header.encode()})
        assert answer.status_code in (400, 401)


async def test_what_is_refused(gateway: Gateway, root: Headers) -> None:
    secret = await make(gateway, root)
    await gateway.people.add("ana")
    taken = await gateway.http.post(ACCOUNTS, json={"name": "ana"}, headers=root)
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert (await gateway.http.get(f"{ACCOUNTS}/ana", headers=root)).status_code == 404
    dry = await gateway.http.post(f"{ACCOUNTS}?dry_run=true", json={"name": "dry"}, headers=root)
    assert (dry.status_code, dry.json()["client_secret"]) == (201, None)
    password = {"grant_type": "password", "username": "nightly", "password": secret}
    assert (await gateway.http.post("/api/v1/auth/token", data=password)).status_code == 400
    change = await gateway.http.patch("/api/v1/users/nightly", json={"password": "a password"}, headers=root)
    assert (change.status_code, change.json()["errors"][0]["pointer"]) == (422, "/password")
    assert (await sign_in(gateway, "", name="nightly")).json()["error"] == "invalid_request"
    statuses = [(await sign_in(gateway, "wrong")).status_code for _ in range(12)]
    assert statuses == [401] * 9 + [429] * 3  # the password was a failed try too
    assert (await sign_in(gateway, secret, **{"X-Envoy-External-Address": "192.0.2.9"})).status_code == 200


async def test_a_new_secret_with_and_without_overlap(gateway: Gateway, root: Headers) -> None:
    first = await make(gateway, root)

    async def rotate(body: Any = None, **headers: str) -> httpx.Response:
        return await gateway.http.post(f"{ACCOUNTS}/nightly/rotate", json=body, headers=root | headers)

    assert (await rotate(**{"If-Match": '"9"'})).status_code == 412
    second = (await rotate({"overlap": 60})).json()["client_secret"]
    assert [(await sign_in(gateway, each)).status_code for each in (first, second)] == [200, 200]
    by = await bearer(gateway, second)
    assert (await gateway.http.get("/api/v1/me", headers=by)).status_code == 200
    third = (await rotate()).json()["client_secret"]
    assert (await gateway.http.get("/api/v1/me", headers=by)).status_code == 401
    assert [(await sign_in(gateway, each)).status_code for each in (first, second, third)] == [401, 401, 200]
    fourth = (await rotate({"overlap": 1})).json()["client_secret"]
    await asyncio.sleep(1.1)  # what ends it is the clock
    assert [(await sign_in(gateway, each)).status_code for each in (third, fourth)] == [401, 200]
    assert (await rotate({"overlap": 8 * 86400})).status_code == 422


async def test_rights_come_by_membership_and_their_end_counts_everywhere(four: Four) -> None:
    gateway = four.gateway
    secret = await make(gateway, dict(four.root))
    by = await bearer(gateway, secret)
    deploy = {"id": "churn", "model": "risk/churn/1"}
    reads = {
        "gateway": "/deployments/churn/clients",
        "registry": "/groups/risk",
        "deployer": "/deployments/churn",
        "metrics": "/deployments/churn/metrics",
    }

    async def statuses() -> set[int]:
        answers = await asyncio.gather(*(four.call(service, "GET", path, by=by) for service, path in reads.items()))
        return {answer.status_code for answer in answers}

    assert (await four.call("deployer", "POST", "/deployments", deploy, by=by)).status_code == 404
    member = "/groups/risk/members/nightly"
    assert (await four.call("registry", "PUT", member, {"permission": "edit"})).status_code == 201
    made = await four.call("deployer", "POST", "/deployments", deploy, by=by)
    assert (made.status_code, made.json()["created_by"]) == (201, "nightly")
    assert await statuses() == {200}
    assert (await four.call("registry", "DELETE", member)).status_code == 204
    assert await statuses() == {404}
    await four.call("registry", "PUT", member, {"permission": "read"})
    assert await statuses() == {200}
    assert (await four.call("gateway", "PATCH", "/users/nightly", {"disabled": True})).status_code == 200
    assert await statuses() == {401}
    await four.call("gateway", "PATCH", "/users/nightly", {"disabled": False})
    assert await statuses() == {401}  # a sign-in that has ended does not come back
    by = await bearer(gateway, secret)
    assert await statuses() == {200}
    assert (await four.call("gateway", "DELETE", "/service-accounts/nightly")).status_code == 204
    assert await statuses() == {401}
