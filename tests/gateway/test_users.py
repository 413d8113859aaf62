"""Users: what administrators may, what everybody may about themselves, and that one administrator always stays."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from shared.schema import OutboxEntry
from tests.gateway.envoy.harness import until
from tests.gateway.world import Gateway

USERS = "/api/v1/users"


@pytest.fixture
async def root(gateway: Gateway) -> dict[str, str]:
    return await gateway.people.add("root", admin=True)


async def add(gateway: Gateway, root: dict[str, str], user: str, **more: Any) -> httpx.Response:
    return await gateway.http.post(USERS, json={"user": user, **more}, headers=root)


async def sign_in(gateway: Gateway, user: str, password: str) -> int:
    form = {"grant_type": "password", "username": user, "password": password}
    return (await gateway.http.post("/api/v1/auth/token", data=form)).status_code


async def test_a_user_from_beginning_to_end(gateway: Gateway, root: dict[str, str]) -> None:
    made = await add(gateway, root, "ana", display_name="Ana", email="ana@example.com")
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (201, '"1"', f"{USERS}/ana")
    assert await sign_in(gateway, "ana", made.json()["password"]) == 200
    assert "password" not in (await gateway.http.get(f"{USERS}/ana", headers=root)).json()

    change = {"email": None, "display_name": "Ana P.", "password": "a new password"}
    stale = await gateway.http.patch(f"{USERS}/ana", json=change, headers=root | {"If-Match": '"7"'})
    assert stale.status_code == 412
    changed = await gateway.http.patch(f"{USERS}/ana", json=change, headers=root | {"If-Match": '"1"'})
    assert changed.json() | {"email": None, "display_name": "Ana P."} == changed.json()
    assert changed.headers["etag"] == '"2"'
    assert await sign_in(gateway, "ana", made.json()["password"]) == 400
    assert await sign_in(gateway, "ana", "a new password") == 200

    assert (await gateway.http.delete(f"{USERS}/ana", headers=root)).status_code == 204
    assert (await gateway.http.get(f"{USERS}/ana", headers=root)).status_code == 404
    assert await sign_in(gateway, "ana", "a new password") == 400


async def test_every_change_is_told(gateway: Gateway, root: dict[str, str]) -> None:
    heard: list[tuple[str, str]] = []
    gateway.app.state.core.hints.listen(lambda kind, subject: heard.append((kind, subject)))
    await add(gateway, root, "ana", password="long enough")
    await gateway.http.patch(f"{USERS}/ana", json={"admin": True}, headers=root)
    await gateway.http.delete(f"{USERS}/ana", headers=root)

    def kinds() -> list[str]:
        return [kind for kind, subject in heard if subject == "ana"]

    await until(lambda: len(kinds()) == 3, what="three hints")
    assert kinds() == ["moorage.user.created", "moorage.user.changed", "moorage.user.changed"]


async def test_a_given_password_is_not_shown(gateway: Gateway, root: dict[str, str]) -> None:
    made = await add(gateway, root, "ana", password="correct horse")
    assert made.json()["password"] is None
    assert "correct horse" not in made.text
    short = await add(gateway, root, "bob", password="short")
    assert (short.status_code, short.json()["errors"][0]["pointer"]) == (422, "/password")
    assert "short" not in short.json()["detail"].replace("shorter", "")


async def test_names_and_addresses_are_unique(gateway: Gateway, root: dict[str, str]) -> None:
    await add(gateway, root, "ana", email="ana@example.com")
    for user, email in (("ana", None), ("bob", "ana@example.com")):
        answer = await add(gateway, root, user, email=email)
        assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    await add(gateway, root, "bob")
    answer = await gateway.http.patch(f"{USERS}/bob", json={"email": "ana@example.com"}, headers=root)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    for wrong in ({"admin": None}, {"display_name": None}, {"user": "x"}, {"email": "no address"}):
        answer = await gateway.http.patch(f"{USERS}/bob", json=wrong, headers=root)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{next(iter(wrong))}")


async def test_one_administrator_always_stays(gateway: Gateway, root: dict[str, str]) -> None:
    for attempt in ({"admin": False}, {"disabled": True}):
        answer = await gateway.http.patch(f"{USERS}/root", json=attempt, headers=root)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert (await gateway.http.delete(f"{USERS}/root", headers=root)).status_code == 409

    others = {name: await gateway.people.add(name, admin=True) for name in ("ada", "bea")}
    # Everybody removes somebody else, all at once: all but one may go, and the last one stays.
    circle = [("root", "ada"), ("ada", "bea"), ("bea", "root")]
    headers = {"root": root, **others}
    await asyncio.gather(
        *(gateway.http.patch(f"{USERS}/{b}", json={"admin": False}, headers=headers[a]) for a, b in circle)
    )
    admins = [name for name in headers if (await gateway.http.get("/api/v1/me", headers=headers[name])).json()["admin"]]
    assert admins


async def test_one_learns_what_one_may(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "manage")])
    me = (await gateway.http.get("/api/v1/me", headers=ana)).json()
    assert me["groups"] == [{"group": "risk", "permission": "manage"}]


async def test_lists_have_pages_and_words(gateway: Gateway, root: dict[str, str]) -> None:
    for user, name in (("cleo", "Cleo"), ("ana", "Ana_1"), ("bob", "Bob")):
        await add(gateway, root, user, display_name=name, password="long enough")
    first = (await gateway.http.get(f"{USERS}?limit=3&count=true", headers=root)).json()
    assert ([each["user"] for each in first["items"]], first["total"]) == (["ana", "bob", "cleo"], 4)
    rest = (await gateway.http.get(USERS, params={"cursor": first["next"]}, headers=root)).json()
    assert ([each["user"] for each in rest["items"]], rest["next"]) == (["root"], None)
    found = (await gateway.http.get(USERS, params={"q": "a_"}, headers=root)).json()
    assert [each["user"] for each in found["items"]] == ["ana"]
    foreign = await gateway.http.get(USERS, params={"cursor": "WzFd"}, headers=root)
    assert foreign.status_code == 422


async def test_a_dry_run_makes_nobody(gateway: Gateway, root: dict[str, str]) -> None:
    answer = await gateway.http.post(f"{USERS}?dry_run=true", json={"user": "ana"}, headers=root)
    assert (answer.status_code, answer.json()["password"]) == (201, None)
    assert (await gateway.http.get(f"{USERS}/ana", headers=root)).status_code == 404
    async with gateway.deployer.sessions() as session:
        assert (await session.execute(select(OutboxEntry))).first() is None
