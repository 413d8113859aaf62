"""Signing in, staying signed in, and every way to be refused."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from jose import jwt
from sqlalchemy import func, select, update

from services.gateway.identity.passwords import Passwords
from services.gateway.users.commands import change_user
from shared.schema import RefreshToken, User
from tests.gateway.world import Gateway, until_blocked

TOKEN = "/api/v1/auth/token"
PASSWORD = "correct horse battery"


@pytest.fixture
async def ana(gateway: Gateway) -> str:
    async with gateway.deployer.sessions.begin() as session:
        session.add(User(id="ana", display_name="Ana", password_hash=await Passwords().hash(PASSWORD)))
    return "ana"


async def sign_in(gateway: Gateway, user: str = "ana", password: str = PASSWORD, **more: str) -> httpx.Response:
    form = {"grant_type": "password", "username": user, "password": password, **more}
    return await gateway.http.post(TOKEN, data=form)


async def renew(gateway: Gateway, token: str) -> httpx.Response:
    return await gateway.http.post(TOKEN, data={"grant_type": "refresh_token", "refresh_token": token})


async def me(gateway: Gateway, token: str) -> httpx.Response:
    return await gateway.http.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})


async def test_a_password_gives_tokens_that_work(gateway: Gateway, ana: str) -> None:
    answer = await sign_in(gateway)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)
    shown = await me(gateway, tokens["access_token"])
    assert shown.json() == {"user": "ana", "display_name": "Ana", "email": None, "admin": False, "groups": []}
    assert shown.headers["etag"] == '"1"'


async def test_the_published_keys_verify_what_is_issued(gateway: Gateway, ana: str) -> None:
    token = (await sign_in(gateway)).json()["access_token"]
    for path in ("/.well-known/jwks.json", "/api/v1/.well-known/jwks.json"):
        keys = (await gateway.http.get(path)).json()
        claims = jwt.decode(token, keys, algorithms=["ES256"], audience="moorage", issuer="moorage")
        assert claims["sub"] == "ana"
        assert claims["exp"] - claims["iat"] == 3600
        assert all("d" not in key and key["alg"] == "ES256" for key in keys["keys"])


async def test_a_refresh_token_is_good_once(gateway: Gateway, ana: str) -> None:
    first = (await sign_in(gateway)).json()["refresh_token"]
    second = (await renew(gateway, first)).json()
    assert (await me(gateway, second["access_token"])).status_code == 200
    other = (await sign_in(gateway)).json()["refresh_token"]

    reused = await renew(gateway, first)
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert "was used before" in reused.json()["detail"]
    # Whoever holds the newer one is thrown out too: it may be the thief. Other sign-ins are not touched.
    assert (await renew(gateway, second["refresh_token"])).status_code == 400
    assert (await renew(gateway, other)).status_code == 200


async def test_of_two_uses_at_once_one_counts(gateway: Gateway, ana: str) -> None:
    token = (await sign_in(gateway)).json()["refresh_token"]
    answers = await asyncio.gather(*(renew(gateway, token) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]


async def test_a_dry_run_does_not_make_a_used_token_good_again(gateway: Gateway, ana: str) -> None:
    token = (await sign_in(gateway)).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert (await gateway.http.post(f"{TOKEN}?dry_run=true", data=form)).status_code == 200
    assert (await renew(gateway, token)).status_code == 400


async def test_only_the_hash_of_a_refresh_token_is_kept(gateway: Gateway, ana: str) -> None:
    token = (await sign_in(gateway)).json()["refresh_token"]
    async with gateway.deployer.sessions() as session:
        kept = (await session.execute(select(RefreshToken.sha256))).scalar_one()
    assert kept == hashlib.sha256(token.encode()).digest()


async def test_one_answer_for_every_reason(gateway: Gateway, ana: str) -> None:
    """A stranger learns nothing about which users there are."""
    async with gateway.deployer.sessions.begin() as session:
        session.add(User(id="dan", disabled=True, password_hash=await Passwords().hash(PASSWORD)))
        session.add(User(id="olga", password_hash=None))  # signs in elsewhere
    answers = [
        await sign_in(gateway, "ana", "wrong"),
        await sign_in(gateway, "nobody", PASSWORD),
        await sign_in(gateway, "dan", PASSWORD),
        await sign_in(gateway, "olga", PASSWORD),
        await sign_in(gateway, "an\x00a", PASSWORD),
        await sign_in(gateway, "ana", "x" * 5000),
    ]
    bodies = [answer.json() | {"request_id": None} for answer in answers]
    assert bodies == [bodies[0]] * len(bodies)
    assert bodies[0]["error"] == bodies[0]["code"] == "invalid_grant"
    assert {answer.status_code for answer in answers} == {400}


async def test_every_reason_costs_one_hash(gateway: Gateway, ana: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str | None] = []
    verify = Passwords.verify

    async def counted(self: Passwords, password_hash: str | None, password: str) -> bool:
        checked.append(password_hash)
        return await verify(self, password_hash, password)

    monkeypatch.setattr(Passwords, "verify", counted)
    async with gateway.deployer.sessions.begin() as session:
        session.add(User(id="dan", disabled=True, password_hash=await Passwords().hash(PASSWORD)))
    for user in ("ana", "nobody", "dan", "not a name"):
        await sign_in(gateway, user, "wrong")
    assert [each is None for each in checked] == [False, True, False, True]


async def test_errors_speak_oauth_and_rfc_9457(gateway: Gateway) -> None:
    wrong: list[tuple[dict[str, str], str]] = [
        ({}, "invalid_request"),
        ({"grant_type": "password", "username": "ana"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "invalid_request"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "made up"}, "invalid_grant"),
    ]
    for form, code in wrong:
        answer = await gateway.http.post(TOKEN, data=form)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["error"], problem["code"], problem["type"]) == (code, code, f"/docs/errors#{code}")
        assert problem["error_description"] == problem["detail"]


async def test_bodies_that_are_no_forms_are_refused(gateway: Gateway) -> None:
    bodies = (b'{"grant_type": "password"}', b"\xff\x00%zz=&&&", b"grant_type=password&username=%00")
    kinds = (
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
    )
    for body, kind in itertools.product(bodies, kinds):
        answer = await gateway.http.post(TOKEN, content=body, headers={"Content-Type": kind})
        assert (answer.status_code, body, kind) == (400, body, kind)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_form_with_a_file_fills_no_disk(gateway: Gateway) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
        while sent < 100:
            sent += 1
            yield b"a" * 2**20

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await gateway.http.post(TOKEN, content=endless(), headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert sent < 10


async def test_a_disabled_user_is_out_at_once(gateway: Gateway, ana: str) -> None:
    admin = await gateway.people.add("root", admin=True)
    tokens = (await sign_in(gateway)).json()
    answer = await gateway.http.patch("/api/v1/users/ana", json={"disabled": True}, headers=admin)
    assert answer.json()["disabled"] is True
    assert (await me(gateway, tokens["access_token"])).status_code == 401
    assert (await renew(gateway, tokens["refresh_token"])).status_code == 400
    await gateway.http.patch("/api/v1/users/ana", json={"disabled": False}, headers=admin)
    assert (await renew(gateway, tokens["refresh_token"])).status_code == 400
    assert (await sign_in(gateway)).status_code == 200


async def test_a_new_password_ends_all_sign_ins(gateway: Gateway, ana: str) -> None:
    tokens = (await sign_in(gateway)).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    body = {"current": "wrong", "new": "another long one"}
    wrong = await gateway.http.put("/api/v1/me/password", json=body, headers=headers)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/current")
    body["current"] = PASSWORD
    assert (await gateway.http.put("/api/v1/me/password", json=body, headers=headers)).status_code == 204
    assert (await renew(gateway, tokens["refresh_token"])).status_code == 400
    assert (await sign_in(gateway)).status_code == 400
    assert (await sign_in(gateway, password="another long one")).status_code == 200


@pytest.mark.parametrize("change", [{"password": "another long one"}, {"disabled": True}])
async def test_a_sign_in_that_is_under_way_meanwhile_is_refused(
    gateway: Gateway, ana: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """The old password is good when it is looked at, and no more when the token would be given out."""
    admin = await gateway.people.add("root", admin=True)
    verify = Passwords.verify

    async def changed_meanwhile(self: Passwords, password_hash: str | None, password: str) -> bool:
        matches = await verify(self, password_hash, password)
        monkeypatch.setattr(Passwords, "verify", verify)
        answer = await gateway.http.patch("/api/v1/users/ana", json=change, headers=admin)
        assert answer.status_code == 200, answer.text
        return matches

    monkeypatch.setattr(Passwords, "verify", changed_meanwhile)
    assert (await sign_in(gateway)).json()["error"] == "invalid_grant"
    async with gateway.deployer.sessions() as session:
        assert (await session.execute(select(func.count()).select_from(RefreshToken))).scalar_one() == 0


async def test_a_renewal_waits_for_a_new_password_and_is_refused(gateway: Gateway, ana: str) -> None:
    token = (await sign_in(gateway)).json()["refresh_token"]
    async with gateway.deployer.sessions.begin() as session:
        user = await session.get_one(User, ana, with_for_update=True)
        renewal = asyncio.create_task(renew(gateway, token))
        await until_blocked(gateway)
        await change_user(session, user, {"password_hash": await Passwords().hash("another long one")})
    assert (await renewal).json()["error"] == "invalid_grant"
    async with gateway.deployer.sessions() as session:
        assert (await session.execute(select(func.count()).select_from(RefreshToken))).scalar_one() == 0


async def test_an_old_hash_is_renewed_on_the_way(gateway: Gateway, ana: str) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    async with gateway.deployer.sessions.begin() as session:
        await session.execute(update(User).values(password_hash=weak))
    assert (await sign_in(gateway)).status_code == 200
    async with gateway.deployer.sessions() as session:
        renewed = (await session.execute(select(User.password_hash).where(User.id == "ana"))).scalar_one()
    assert renewed is not None
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await sign_in(gateway)).status_code == 200


async def test_guessing_is_slowed_down_and_locks_out_nobody(gateway: Gateway, ana: str) -> None:
    async def try_from(address: str, password: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://moorage") as http:
            form = {"grant_type": "password", "username": "ana", "password": password}
            return await http.post(TOKEN, data=form)

    # Many at once do not slip through before the first has failed.
    guesses = await asyncio.gather(*(try_from("203.0.113.9", f"guess {n}") for n in range(30)))
    assert sorted({answer.status_code for answer in guesses}) == [400, 429]
    assert sum(answer.status_code == 400 for answer in guesses) == 10
    limited = next(answer for answer in guesses if answer.status_code == 429)
    assert limited.json()["error"] == "too_many_requests"
    assert int(limited.headers["retry-after"]) >= 1
    assert (await try_from("203.0.113.9", PASSWORD)).status_code == 429
    for _ in range(15):  # right passwords do not count
        assert (await try_from("198.51.100.7", PASSWORD)).status_code == 200


async def test_a_flood_of_sign_ins_starves_nobody(gateway: Gateway, ana: str) -> None:
    """While a hundred passwords are hashed other calls are answered, and what is too much is told to come back."""
    headers = await gateway.people.add("eve")

    async def guess(number: int) -> int:
        transport = httpx.ASGITransport(app=gateway.app, client=(f"10.0.{number // 200}.{number % 200}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://moorage") as http:
            form = {"grant_type": "password", "username": "ana", "password": "wrong"}
            return (await http.post(TOKEN, data=form)).status_code

    flood = [asyncio.create_task(guess(number)) for number in range(130)]
    for _ in range(20):
        assert (await gateway.http.get("/api/v1/me", headers=headers)).status_code == 200
    assert not all(task.done() for task in flood)  # those were answered in between
    statuses: Any = set(await asyncio.gather(*flood))
    assert statuses <= {400, 503}
    async with gateway.deployer.sessions() as session:
        assert (await session.execute(select(func.count()).select_from(RefreshToken))).scalar_one() == 0
