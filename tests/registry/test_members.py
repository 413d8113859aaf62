"""Members and personal groups."""

import asyncio
import time

from sqlalchemy import delete, select

from services.registry.groups.domain import personal_ids
from shared import outbox
from shared.events.gateway import USER_CREATED
from shared.schema import InboxEntry, Member, User
from tests.registry.world import Registry, code

MEMBERS = "/groups/risk/members"


async def test_members_come_change_and_go(registry: Registry) -> None:
    mia = await registry.people.add("mia", groups=[("risk", "manage")])
    eve = await registry.people.add("eve.adams_1")
    path = f"{MEMBERS}/eve.adams_1"
    assert (await registry.call("GET", "/groups/risk", by=eve)).status_code == 404
    new = await registry.call("PUT", path, {"permission": "read"}, by=mia)
    assert (new.status_code, new.json()["permission"]) == (201, "read")
    assert (await registry.call("GET", "/groups/risk", by=eve)).status_code == 200
    for permission in ("edit", "edit", "manage"):
        answer = await registry.call("PUT", path, {"permission": permission}, by=mia)
        assert (answer.status_code, answer.json()["permission"]) == (200, permission)
    listed = (await registry.call("GET", f"{MEMBERS}?count=true", by=eve)).json()
    assert ([member["user"] for member in listed["items"]], listed["total"]) == (["eve.adams_1", "mia"], 2)
    assert (await registry.call("DELETE", path, by=mia)).status_code == 204
    assert (await registry.call("GET", "/groups/risk", by=eve)).status_code == 404
    assert code(await registry.call("DELETE", path, by=mia)) == "not_found"


async def test_what_makes_no_member(registry: Registry) -> None:
    eve = await registry.people.add("eve", groups=[("risk", "edit")])
    await registry.people.add("sam")
    ghost = await registry.call("PUT", f"{MEMBERS}/ghost", {"permission": "read"}, by=registry.admin)
    assert code(ghost) == "not_found"
    # Nobody learns which users there are from what they may not do.
    assert (await registry.call("PUT", f"{MEMBERS}/ghost", {"permission": "read"}, by=eve)).status_code == 403
    for body in ({"permission": "owner"}, {"permission": None}, {}, {"permission": "read", "x": 1}):
        assert (await registry.call("PUT", f"{MEMBERS}/sam", body, by=registry.admin)).status_code == 422


async def test_a_group_keeps_a_manager(registry: Registry) -> None:
    managers = [await registry.people.add(name, groups=[("risk", "manage")]) for name in ("ann", "bob")]
    removals = [
        registry.call("DELETE", f"{MEMBERS}/bob", by=managers[0]),
        registry.call("PUT", f"{MEMBERS}/ann", {"permission": "read"}, by=managers[1]),
    ]
    answers = await asyncio.gather(*removals)  # each removes the other, at once
    left = [
        m["user"]
        for m in (await registry.call("GET", MEMBERS, by=registry.admin)).json()["items"]
        if m["permission"] == "manage"
    ]
    assert len(left) == 1, [answer.text for answer in answers]
    last = managers[0] if left == ["ann"] else managers[1]
    assert code(await registry.call("DELETE", f"{MEMBERS}/{left[0]}", by=last)) == "last_manager"
    assert code(await registry.call("PUT", f"{MEMBERS}/{left[0]}", {"permission": "edit"}, by=last)) == "last_manager"
    assert (await registry.call("DELETE", f"{MEMBERS}/{left[0]}", by=registry.admin)).status_code == 204


async def test_every_user_gets_a_personal_group_on_first_sight(registry: Registry) -> None:
    await registry.make("/groups", {"id": "jo-doe"})
    users = ["jo.doe", "jo_doe", "jo-doe", "a" * 63]
    async with registry.core.sessions.begin() as session:
        for user in users:
            session.add(User(id=user, display_name="Jo" if user == "jo.doe" else ""))
            await session.flush()
            for _ in range(2):  # two events of one user
                await outbox.append(session, USER_CREATED, user, user=user)
    deadline = time.monotonic() + 10
    applied: list[str] = []
    while len(applied) < 8 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        async with registry.core.sessions() as session:
            applied = list((await session.execute(select(InboxEntry.event_id))).scalars())
    groups = (await registry.call("GET", "/groups?limit=200", by=registry.admin)).json()["items"]
    personal = {group["id"]: group["name"] for group in groups if group["personal"]}
    expected = {list(personal_ids(user))[1 if len(user) < 40 else 0] for user in users}
    assert expected <= set(personal)
    assert all(len(group) <= 40 for group in personal)
    hers = next(group for group, name in personal.items() if name == "Jo")
    jo = await registry.people.sign_in("jo.doe")
    assert (await registry.call("GET", f"/groups/{hers}/members/jo.doe", by=jo)).json()["permission"] == "manage"
    assert code(await registry.call("DELETE", f"/groups/{hers}", by=registry.admin)) == "conflict"


async def test_a_user_who_is_made_again_manages_the_personal_group_again(registry: Registry) -> None:
    async def make() -> None:
        async with registry.core.sessions.begin() as session:
            session.add(User(id="jo"))
            await session.flush()
            await outbox.append(session, USER_CREATED, "jo", user="jo")

    async def managed() -> list[tuple[str, str]]:
        async with registry.core.sessions() as session:
            rows = await session.execute(select(Member.group_id, Member.permission).where(Member.user_id == "jo"))
            return [(row.group_id, row.permission) for row in rows]

    async def until_managed() -> list[tuple[str, str]]:
        deadline = time.monotonic() + 10
        while not (found := await managed()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        return found

    await make()
    before = await until_managed()
    async with registry.core.sessions.begin() as session:
        await session.execute(delete(User).where(User.id == "jo"))
    assert await managed() == []
    await make()
    assert await until_managed() == before


def test_personal_ids_are_labels_of_their_own() -> None:
    for user in ("ana", "a.b", "a_b", "0", "a" * 63, "a" + "." * 62, "x" * 33 + "-" * 29):
        ids = list(personal_ids(user))
        assert len(ids) >= 3
        assert all(len(each) <= 40 and each.strip("-") == each and "--" not in each for each in ids[:1])
        assert all(len(each) <= 40 for each in ids)
