"""The audit log: what is in it, who sees it, and that nobody alters or removes a line of it unseen."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from services.gateway.audit.domain import BEGINNING, Broken, Head
from services.gateway.audit.sealer import Sealer
from services.gateway.audit.verifier import verify_chain
from shared.access_tokens import new_token
from shared.audit import Allowance
from tests.gateway.envoy.harness import until
from tests.gateway.four import Four, running_four
from tests.gateway.process import create_admin, verify_audit
from tests.gateway.world import Gateway, settings_of

AUDIT = "/api/v1/audit"


@pytest.fixture
async def four(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Four]:
    async with running_four(environment, tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
async def root(gateway: Gateway) -> dict[str, str]:
    return await gateway.people.add("root", admin=True)


async def entries(gateway: Gateway, by: Any, **query: Any) -> list[dict[str, Any]]:
    answer = await gateway.http.get(AUDIT, params=query, headers=by)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def sealed(gateway: Gateway, root: dict[str, str]) -> list[dict[str, Any]]:
    """All entries, once each has its place in the chain."""

    async def all_sealed() -> list[dict[str, Any]] | None:
        found = await entries(gateway, root, limit=200)
        return found if found and all(each["position"] for each in found) else None

    found: list[dict[str, Any]] = await until(all_sealed, what="all entries sealed")
    return found


async def test_a_change_is_recorded_with_what_it_changed(gateway: Gateway, root: dict[str, str]) -> None:
    headers = root | {"X-Request-Id": "made-ana", "X-Forwarded-For": "6.6.6.6", "X-Envoy-External-Address": "192.0.2.7"}
    body = {"user": "ana", "email": "ana@example.com", "password": "a good password"}
    assert (await gateway.http.post("/api/v1/users", json=body, headers=headers)).status_code == 201
    await gateway.http.patch("/api/v1/users/ana", json={"admin": True, "password": "a better one"}, headers=root)
    changed, made = await entries(gateway, root)
    assert made | {"user": "root", "action": "create_user", "path": "/api/v1/users/ana", "outcome": "done"} == made
    assert (made["service"], made["status"], made["address"]) == ("gateway", 201, "192.0.2.7")
    assert [each["id"] for each in await entries(gateway, root, request_id="made-ana")] == [made["id"]]
    [row] = made["changes"]
    assert (row["kind"], row["key"], row["before"]) == ("users", {"id": "ana"}, None)
    assert row["after"] == {"admin": False, "disabled": False, "display_name": "", "email": "ana@example.com"}
    assert changed["changes"][0]["before"] == {"admin": False}
    assert changed["changes"][0]["after"] == {"admin": True}


async def test_a_token_that_stands_in_a_path_is_not_recorded(gateway: Gateway, root: dict[str, str]) -> None:
    token = new_token()
    answer = await gateway.http.delete(f"/api/v1/access-tokens/{token}", headers={"X-Request-Id": token})
    assert answer.status_code == 401
    [entry] = await entries(gateway, root, outcome="denied")
    assert (entry["path"], entry["request_id"]) == ("/api/v1/access-tokens/***", "***")


async def test_what_came_to_nothing_is_not_recorded(gateway: Gateway, root: dict[str, str]) -> None:
    users = "/api/v1/users"
    assert (await gateway.http.post(users, json={"user": "ana"}, headers=root)).status_code == 201
    for attempt in (
        gateway.http.post(users, json={"user": "ana"}, headers=root),  # taken
        gateway.http.post(users, json={"user": "Not a name"}, headers=root),
        gateway.http.post(f"{users}?dry_run=true", json={"user": "bob"}, headers=root),
        gateway.http.patch(f"{users}/ana", json={"admin": True}, headers=root | {"If-Match": '"9"'}),
        gateway.http.get(users, headers=root),
    ):
        await attempt
    assert len(await entries(gateway, root)) == 1


async def test_sign_ins_are_recorded_and_a_name_that_may_be_a_password_is_not(
    gateway: Gateway, root: dict[str, str]
) -> None:
    await gateway.http.post("/api/v1/users", json={"user": "ana", "password": "a good password"}, headers=root)

    async def sign_in(user: str, password: str) -> httpx.Response:
        form = {"grant_type": "password", "username": user, "password": password}
        return await gateway.http.post("/api/v1/auth/token", data=form)

    tokens = (await sign_in("ana", "a good password")).json()
    await sign_in("ana", "a bad password")
    await sign_in("a good password", "ana")
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert [(await gateway.http.post("/api/v1/auth/token", data=refresh)).status_code for _ in range(2)] == [200, 400]
    found = await entries(gateway, root, action="create_token")
    assert [(each["user"], each["outcome"], each["code"]) for each in reversed(found)] == [
        ("ana", "done", None),
        ("ana", "denied", "invalid_grant"),
        (None, "denied", "invalid_grant"),
        ("ana", "denied", "invalid_grant"),  # the token that was used twice
    ]
    [made] = found[-1]["changes"]
    assert (made["kind"], made["key"]["user_id"], made["after"]["method"]) == ("sign_ins", "ana", "password")
    [ended] = (await entries(gateway, root, action="create_token", outcome="denied"))[:1]
    assert ended["changes"] == []
    shown = json.dumps([found, await entries(gateway, root)])
    assert not any(secret in shown for secret in ("a good password", "a bad password", tokens["refresh_token"]))


async def test_all_four_services_record_changes_and_denials(four: Four) -> None:
    bob = await four.gateway.people.add("bob", groups=[("risk", "read")])
    eve = await four.gateway.people.add("eve")
    deploy = {"id": "churn", "model": "risk/churn/1"}
    done = [
        await four.call("registry", "PUT", "/groups/risk/members/bob", {"permission": "edit"}),
        await four.call("deployer", "POST", "/deployments", deploy, by=bob),
        await four.call("registry", "PUT", "/groups/risk/members/bob", {"permission": "read"}),
    ]
    assert [each.status_code for each in done] == [200, 201, 200], [each.text for each in done]
    denied = [
        await four.call("registry", "PUT", "/groups/risk/members/eve", {"permission": "edit"}, by=bob),
        await four.call("deployer", "POST", "/deployments/churn/stop", by=bob),
        await four.call("gateway", "POST", "/deployments/churn/clients", {"name": "x"}, by=bob),
        await four.call("gateway", "GET", "/users", by=bob),
        await four.call("metrics", "GET", "/deployments/churn/metrics", by=eve),
        await four.call("deployer", "DELETE", "/deployments/churn", by={"Authorization": "Bearer forged"}),
    ]
    assert [each.status_code for each in denied] == [403, 403, 403, 403, 404, 401]
    found = list(reversed(await entries(four.gateway, dict(four.root))))
    assert [(each["service"], each["user"], each["group"], each["outcome"]) for each in found] == [
        ("registry", "root", "risk", "done"),
        ("deployer", "bob", "risk", "done"),
        ("registry", "root", "risk", "done"),
        ("registry", "bob", "risk", "denied"),
        ("deployer", "bob", "risk", "denied"),
        ("gateway", "bob", "risk", "denied"),
        ("gateway", "bob", None, "denied"),
        ("metrics", "eve", "risk", "denied"),
        ("deployer", None, None, "denied"),
    ]
    assert found[0]["changes"][0]["before"] == {"permission": "read"}
    assert found[0]["changes"][0]["after"] == {"permission": "edit"}
    assert found[1]["path"] == "/api/v1/deployments/churn"
    assert found[1]["changes"][0]["after"] | {"generation": 1, "revision": 1} == found[1]["changes"][0]["after"]


async def test_who_sees_what(gateway: Gateway, root: dict[str, str]) -> None:
    await gateway.deployer.deploy("churn", {})
    await gateway.deployer.deploy("bikes", {}, group="other")
    mia = await gateway.people.add("mia", groups=[("risk", "manage")])
    ed = await gateway.people.add("ed", groups=[("risk", "edit"), ("other", "edit")])
    for deployment in ("churn", "bikes"):
        url = f"/api/v1/deployments/{deployment}/clients?wait=none"
        assert (await gateway.http.post(url, json={"name": "a"}, headers=ed)).status_code == 201
    await gateway.http.get("/api/v1/users", headers=mia)

    async def seen(by: dict[str, str], **query: Any) -> list[tuple[str, str | None]]:
        return [(each["user"], each["group"]) for each in await entries(gateway, by, **query)]

    everything = [("mia", None), ("ed", "other"), ("ed", "risk")]
    assert await seen(root) == everything
    assert await seen(mia) == [("mia", None), ("ed", "risk")]
    assert await seen(ed) == [("ed", "other"), ("ed", "risk")]
    assert await seen(root, user=["mia", "nobody"]) == everything[:1]
    assert await seen(root, group="risk") == everything[2:]
    assert await seen(root, action="create_client", outcome="done") == everything[1:]
    assert await seen(root, outcome="denied", **{"from": "2020-01-01T00:00:00Z"}) == everything[:1]
    assert await seen(root, to="2020-01-01T00:00:00Z") == []
    first = (await gateway.http.get(f"{AUDIT}?limit=2&count=true", headers=root)).json()
    rest = (await gateway.http.get(f"{AUDIT}?limit=2&cursor={first['next']}", headers=root)).json()
    assert first["total"] == 3
    assert [each["user"] for each in first["items"] + rest["items"]] == ["mia", "ed", "ed"]


async def test_it_is_followed_in_the_order_of_the_chain(gateway: Gateway, root: dict[str, str]) -> None:
    for number in range(3):
        await gateway.http.post("/api/v1/users", json={"user": f"u{number}"}, headers=root)
    await sealed(gateway, root)
    core = gateway.app.state.core
    answer = asyncio.create_task(
        gateway.http.get(AUDIT, headers=root | {"Accept": "text/event-stream", "Last-Event-ID": "1"})
    )
    await gateway.http.post("/api/v1/users", json={"user": "u3"}, headers=root)
    await sealed(gateway, root)
    core.stopping.set()
    events = [part for part in (await answer).text.split("\n\n") if "event: entry" in part]
    assert [part.split("\n")[0] for part in events][:2] == ["id: 2", "id: 3"]
    assert json.loads(events[0].partition("data: ")[2])["path"] == "/api/v1/users/u1"


async def test_concurrent_changes_make_one_chain(gateway: Gateway, root: dict[str, str]) -> None:
    core = gateway.app.state.core
    other = asyncio.create_task(Sealer(core.sessions, core.vault, poll=0.01).run())
    people = [gateway.http.post("/api/v1/users", json={"user": f"u{n}"}, headers=root) for n in range(40)]
    assert {each.status_code for each in await asyncio.gather(*people)} == {201}
    found = await sealed(gateway, root)
    other.cancel()
    assert sorted(each["position"] for each in found) == list(range(1, 41))
    head = await verify_chain(core.sessions, core.vault)
    assert head.position == 40


async def test_every_tampering_shows(gateway: Gateway, root: dict[str, str], database_url: str) -> None:
    for number in range(6):
        await gateway.http.post("/api/v1/users", json={"user": f"u{number}"}, headers=root)
    await sealed(gateway, root)
    core = gateway.app.state.core
    head = await verify_chain(core.sessions, core.vault)
    connection = await asyncpg.connect(database_url)
    for statement in (
        "UPDATE audit_entries SET user_id = 'bob' WHERE position = 3",
        "UPDATE audit_entries SET position = NULL, hash = NULL WHERE position = 6",
        "DELETE FROM audit_entries WHERE position = 3",
        "TRUNCATE audit_entries",
    ):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute(statement)

    async def broken(statement: str, *, known: tuple[Head, ...] = ()) -> str:
        """What verification says once a superuser has done this; undone afterwards."""
        await connection.execute("CREATE TABLE kept AS SELECT * FROM audit_entries")
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement)
        try:
            return f"holds up to {(await verify_chain(core.sessions, core.vault, known=known)).position}"
        except Broken as error:
            return str(error)
        finally:
            await connection.execute("TRUNCATE audit_entries")
            await connection.execute("INSERT INTO audit_entries OVERRIDING SYSTEM VALUE SELECT * FROM kept")
            await connection.execute("DROP TABLE kept")

    assert "position 3 was altered" in await broken("UPDATE audit_entries SET user_id = 'bob' WHERE position = 3")
    assert "position 1 was altered" in await broken(
        "UPDATE audit_entries SET changes = jsonb_set(changes, '{0,after,email}', '1') WHERE position = 1"
    )
    assert "after position 2 comes 4" in await broken("DELETE FROM audit_entries WHERE position = 3")
    assert "after position 0 comes 2" in await broken("DELETE FROM audit_entries WHERE position = 1")
    # Closing the gap does not help, for every hash stands on the one before and on its place.
    assert "position 3 was altered" in await broken(
        "DELETE FROM audit_entries WHERE position = 3; UPDATE audit_entries SET position = position - 1"
        " WHERE position > 3"
    )
    assert "position 2 was altered" in await broken(
        "UPDATE audit_entries SET position = -2 WHERE position = 2;"
        "UPDATE audit_entries SET position = 2 WHERE position = 3;"
        "UPDATE audit_entries SET position = 3 WHERE position = -2"
    )
    cut = "DELETE FROM audit_entries WHERE position > 4"
    assert await broken(cut) == "holds up to 4"
    assert "ends at position 4; it went up to 6" in await broken(cut, known=(head,))
    assert "is not what it was" in await broken("SELECT 1", known=(Head(6, "another"),))
    await connection.close()
    assert await verify_chain(core.sessions, core.vault, known=(head,)) == head


async def test_one_command_verifies_it(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment, tmp_path)
    empty = await asyncio.to_thread(verify_audit, settings)
    assert (empty.returncode, empty.stdout.strip()) == (0, str(BEGINNING))
    await asyncio.to_thread(create_admin, settings)
    connection = await asyncpg.connect(environment["MOORAGE_DATABASE_URL"])
    assert await connection.fetchval("SELECT action FROM audit_entries") == "create-admin"
    await connection.execute("UPDATE audit_entries SET position = 1, hash = 'made up'")
    await connection.close()
    broken = await asyncio.to_thread(verify_audit, settings)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "does not hold: position 1 was altered" in broken.stderr


async def test_a_denial_that_cannot_be_recorded_is_a_denial_all_the_same(
    gateway: Gateway, root: dict[str, str], database_url: str
) -> None:
    ana = await gateway.people.add("ana")
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE audit_entries RENAME TO away")
    assert (await gateway.http.get("/api/v1/users", headers=ana)).status_code == 403
    # But no change without its entry.
    assert (await gateway.http.post("/api/v1/users", json={"user": "bob"}, headers=root)).status_code == 500
    await connection.execute("ALTER TABLE away RENAME TO audit_entries")
    await connection.close()
    assert (await gateway.http.get("/api/v1/users/bob", headers=root)).status_code == 404


def test_denials_of_one_caller_cannot_fill_the_disk() -> None:
    allowance = Allowance()
    assert [allowance.take("eve", now=0.0) for _ in range(30)].count(True) == 20
    assert allowance.take("ana", now=0.0)
    assert allowance.take("eve", now=1.0)
    assert not allowance.take("eve", now=1.0)
    assert [allowance.take(f"10.0.0.{n}", now=1.0) for n in range(500)].count(True) < 200
