"""Where one is signed in, and that signing out is at once, in every service and for every token of a sign-in."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from services.gateway.identity.passwords import Passwords
from services.gateway.sign_ins import commands
from services.gateway.sign_ins.domain import challenge_of
from shared.schema import RefreshToken, SignIn, User
from tests.gateway.four import Four, running_four
from tests.gateway.world import Gateway, until_blocked

SIGN_INS = "/api/v1/sign-ins"
PASSWORD = "correct horse battery"
PATHS = {"gateway": "/me", "registry": "/groups", "deployer": "/deployments", "metrics": "/metrics"}
Headers = dict[str, str]


@pytest.fixture
async def four(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Four]:
    async with running_four(environment, tmp_path, monkeypatch) as running:
        await add(running.gateway, "ana")
        yield running


async def add(gateway: Gateway, user: str, *, admin: bool = False) -> None:
    async with gateway.deployer.sessions.begin() as session:
        session.add(User(id=user, admin=admin, password_hash=await Passwords().hash(PASSWORD)))


async def sign_in(gateway: Gateway, user: str = "ana", **headers: str) -> dict[str, Any]:
    form = {"grant_type": "password", "username": user, "password": PASSWORD}
    answer = await gateway.http.post("/api/v1/auth/token", data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


async def renew(gateway: Gateway, tokens: Mapping[str, str]) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return await gateway.http.post("/api/v1/auth/token", data=form)


def bearer(tokens: Mapping[str, str]) -> Headers:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def statuses(four: Four, tokens: Mapping[str, str]) -> set[int]:
    calls = [four.call(service, "GET", path, by=bearer(tokens)) for service, path in PATHS.items()]
    return {answer.status_code for answer in await asyncio.gather(*calls)}


async def ended(four: Four, tokens: Mapping[str, str]) -> bool:
    return await statuses(four, tokens) == {401} and (await renew(four.gateway, tokens)).status_code == 400


async def test_what_one_sees_of_ones_sign_ins(gateway: Gateway) -> None:
    await add(gateway, "ana")
    first = await sign_in(gateway, **{"User-Agent": "curl/8"})
    second = await sign_in(gateway, **{"X-Forwarded-For": "192.0.2.1", "X-Envoy-External-Address": "203.0.113.9"})
    listed = (await gateway.http.get(f"{SIGN_INS}?count=true", headers=bearer(second))).json()
    assert listed["total"] == 2
    latest, earlier = listed["items"]
    assert (latest["current"], earlier["current"]) == (True, False)
    assert (latest["address"], latest["method"], latest["user"]) == ("203.0.113.9", "password", "ana")
    assert earlier["user_agent"] == "curl/8"
    assert latest["expires_at"] > latest["renewed_at"]
    one = await gateway.http.get(f"{SIGN_INS}/{earlier['id']}", headers=bearer(second))
    assert one.json() == earlier
    assert (await renew(gateway, first)).status_code == 200  # now it is the latest
    pages = f"{SIGN_INS}?limit=1"
    page = (await gateway.http.get(pages, headers=bearer(second))).json()
    rest = (await gateway.http.get(f"{pages}&cursor={page['next']}", headers=bearer(second))).json()
    assert [each["id"] for each in (*page["items"], *rest["items"])] == [earlier["id"], latest["id"]]
    assert rest["next"] is None


async def test_signing_out_ends_one_sign_in_in_all_services(four: Four) -> None:
    here, there = await sign_in(four.gateway), await sign_in(four.gateway)
    items = (await four.call("gateway", "GET", "/sign-ins", by=bearer(here))).json()["items"]
    away = next(each["id"] for each in items if not each["current"])
    dry = await four.call("gateway", "DELETE", f"/sign-ins/{away}?dry_run=true", by=bearer(here))
    assert (dry.status_code, await statuses(four, there)) == (204, {200})
    assert (await four.call("gateway", "DELETE", f"/sign-ins/{away}", by=bearer(here))).status_code == 204
    assert await ended(four, there)
    assert await statuses(four, here) == {200}
    assert (await four.call("gateway", "DELETE", f"/sign-ins/{away}", by=bearer(here))).status_code == 404


async def test_signing_out_everywhere(four: Four) -> None:
    sign_ins = [await sign_in(four.gateway) for _ in range(3)]
    body = {"name": "ci", "scopes": ["*:read"]}
    personal = (await four.call("gateway", "POST", "/access-tokens", body, by=bearer(sign_ins[0]))).json()["token"]
    assert (await four.call("gateway", "DELETE", "/sign-ins", by=bearer(sign_ins[1]))).status_code == 204
    assert [await ended(four, each) for each in sign_ins] == [True] * 3
    assert await statuses(four, {"access_token": personal}) == {200}
    assert await statuses(four, await sign_in(four.gateway)) == {200}


@pytest.mark.parametrize("token", ["access_token", "refresh_token"])
async def test_an_oauth_client_revokes_any_token_of_it(four: Four, token: str) -> None:
    tokens, other = await sign_in(four.gateway), await sign_in(four.gateway)
    for sent, status in ((tokens[token], 200), (tokens[token], 200), ("x", 200), (None, 422)):
        form = {} if sent is None else {"token": sent}
        answer = await four.gateway.http.post("/api/v1/auth/revoke", data=form)
        assert answer.status_code == status, answer.text
    assert await ended(four, tokens)
    assert await statuses(four, other) == {200}


async def test_a_personal_access_token_is_revoked_so_too(four: Four) -> None:
    tokens, made = await sign_in(four.gateway), []
    for name in ("one", "two"):
        body = {"name": name, "scopes": ["*:read"]}
        answer = await four.call("gateway", "POST", "/access-tokens", body, by=bearer(tokens))
        made.append({"access_token": answer.json()["token"]})
    for form in ({"token": made[0]["access_token"]}, {"token": made[0]["access_token"][:-1] + "!"}):
        assert (await four.gateway.http.post("/api/v1/auth/revoke", data=form)).status_code == 200
    assert [await statuses(four, each) for each in (*made, tokens)] == [{401}, {200}, {200}]
    [entry] = (await four.call("gateway", "GET", "/audit?action=revoke_token")).json()["items"]
    assert (entry["user"], entry["changes"][0]["kind"]) == ("ana", "access_tokens")


@pytest.mark.parametrize("way", ["refresh_token", "authorization_code"])
async def test_signing_out_waits_for_a_renewal_and_ends_what_it_gave(
    gateway: Gateway, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the two to lock rows in different orders, each would wait for the other, and one of them be turned away."""
    await add(gateway, "ana")
    tokens = await sign_in(gateway)
    form = {"grant_type": way, "refresh_token": tokens["refresh_token"]}
    if way == "authorization_code":
        form = {"grant_type": way, "redirect_uri": "http://localhost/", "code_verifier": "v" * 43}
        async with gateway.deployer.sessions.begin() as session:
            of = (await session.execute(select(SignIn.id))).scalar_one()
            challenge, now = challenge_of("v" * 43), datetime.now(UTC)
            form["code"] = await commands.give_code(
                session, of, challenge=challenge, redirect_uri=form["redirect_uri"], now=now
            )
    go_on, leaving = commands._go_on, []

    async def meanwhile(*args: Any, **options: Any) -> commands.Started:
        monkeypatch.setattr(commands, "_go_on", go_on)
        leaving.append(asyncio.create_task(gateway.http.delete(SIGN_INS, headers=bearer(tokens))))
        await until_blocked(gateway)
        return await go_on(*args, **options)

    monkeypatch.setattr(commands, "_go_on", meanwhile)
    renewed = await gateway.http.post("/api/v1/auth/token", data=form)
    assert [renewed.status_code, (await leaving[0]).status_code] == [200, 204]
    assert (await gateway.http.get("/api/v1/me", headers=bearer(renewed.json()))).status_code == 401
    assert (await renew(gateway, renewed.json())).status_code == 400


async def test_what_else_ends_a_sign_in_ends_its_access_tokens_too(four: Four) -> None:
    change = {"current": PASSWORD, "new": "another long one"}
    tokens = await sign_in(four.gateway)
    first = await sign_in(four.gateway)
    await renew(four.gateway, first)
    assert (await renew(four.gateway, first)).status_code == 400  # used twice: stolen
    assert await statuses(four, first) == {401}
    assert await statuses(four, tokens) == {200}
    assert (await four.call("gateway", "PUT", "/me/password", change, by=bearer(tokens))).status_code == 204
    assert await ended(four, tokens)


async def test_administrators_see_and_end_those_of_others(gateway: Gateway) -> None:
    await add(gateway, "ana")
    await add(gateway, "bob")
    root = await gateway.people.add("root", admin=True)
    ana, bob = await sign_in(gateway, "ana"), await sign_in(gateway, "bob")

    async def users(by: Headers, query: str = "") -> list[str]:
        listed = (await gateway.http.get(f"{SIGN_INS}{query}", headers=by)).json()
        return sorted(each["user"] for each in listed["items"])

    assert await users(root) == ["ana", "bob", "root"]
    assert await users(root, "?user=bob") == ["bob"]
    assert await users(bearer(bob), "?user=ana") == ["bob"]
    [of_ana] = (await gateway.http.get(f"{SIGN_INS}?user=ana", headers=root)).json()["items"]
    for method, path in (("GET", f"/{of_ana['id']}"), ("DELETE", f"/{of_ana['id']}"), ("DELETE", "?user=ana")):
        refused = await gateway.http.request(method, f"{SIGN_INS}{path}", headers=bearer(bob))
        assert refused.status_code == 404
    assert (await gateway.http.delete(f"{SIGN_INS}?user=nobody", headers=root)).status_code == 404
    assert (await gateway.http.delete(f"{SIGN_INS}?user=ana", headers=root)).status_code == 204
    assert (await gateway.http.get("/api/v1/me", headers=bearer(ana))).status_code == 401
    assert (await gateway.http.get("/api/v1/me", headers=bearer(bob))).status_code == 200
    [entry] = (await gateway.http.get("/api/v1/audit?action=end_sign_ins&outcome=done", headers=root)).json()["items"]
    assert [(each["kind"], each["key"]["user_id"], each["after"]) for each in entry["changes"]] == [
        ("sign_ins", "ana", None)
    ]


async def test_what_has_expired_is_neither_shown_nor_kept(gateway: Gateway) -> None:
    await add(gateway, "ana")
    await sign_in(gateway)
    async with gateway.deployer.sessions.begin() as session:
        await session.execute(update(SignIn).values(expires_at=func.now()))
    tokens = await sign_in(gateway)
    assert len((await gateway.http.get(SIGN_INS, headers=bearer(tokens))).json()["items"]) == 1
    await gateway.app.state.core.housekeeping.tidy()
    async with gateway.deployer.sessions() as session:
        for kept in (SignIn, RefreshToken):
            assert (await session.execute(select(func.count()).select_from(kept))).scalar_one() == 1
    assert (await renew(gateway, tokens)).status_code == 200


async def test_odd_cursors_and_ids_are_refused(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana")
    for path in ("?cursor=eyJ4IjoxfQ", "?cursor=WyJ4Il0", "?user=A%00", "/current", "/1"):
        assert (await gateway.http.get(f"{SIGN_INS}{path}", headers=ana)).status_code == 422, path
