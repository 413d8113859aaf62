"""Groups, their quota and its use, the deployment switch, who may do what."""

import asyncio
from datetime import UTC, datetime

from tests.registry.world import Registry, code


async def test_a_group_is_made_read_changed_and_deleted(registry: Registry) -> None:
    body = {"id": "risk", "name": "Risk", "quota": {"cpu": "1500m", "memory": "2Gi", "gpu": 0.5, "deployments": 3}}
    made = await registry.call("POST", "/groups", body, by=registry.admin)
    assert made.status_code == 201
    assert made.json() | {"created_at": 0, "updated_at": 0} == {
        "id": "risk",
        "name": "Risk",
        "deployment_enabled": True,
        "quota": {"cpu": 1.5, "memory": 2 << 30, "gpu": 0.5, "deployments": 3},
        "personal": False,
        "created_at": 0,
        "updated_at": 0,
    }
    assert (await registry.call("GET", "/groups/risk", by=registry.admin)).json() == made.json()

    change = {"name": None, "deployment_enabled": False, "quota": {"cpu": None, "gpu": 2}}
    changed = await registry.call("PATCH", "/groups/risk", change, by=registry.admin)
    assert changed.json()["name"] == "risk"
    assert changed.json()["deployment_enabled"] is False
    assert changed.json()["quota"] == {"cpu": None, "memory": 2 << 30, "gpu": 2.0, "deployments": 3}
    cleared = await registry.call(
        "PATCH", "/groups/risk", {"quota": None, "deployment_enabled": None}, by=registry.admin
    )
    assert cleared.json()["quota"] == {"cpu": None, "memory": None, "gpu": None, "deployments": None}
    assert cleared.json()["deployment_enabled"] is True

    assert (await registry.call("DELETE", "/groups/risk", by=registry.admin)).status_code == 204
    assert (await registry.call("GET", "/groups/risk", by=registry.admin)).status_code == 404


async def test_an_id_is_given_once(registry: Registry) -> None:
    answers = await asyncio.gather(
        *(registry.call("POST", "/groups", {"id": "risk"}, by=registry.admin) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {code(answer) for answer in answers if answer.status_code == 409} == {"name_taken"}


async def test_etag_guards_a_change(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    tag = (await registry.call("GET", "/groups/risk", by=registry.admin)).headers["etag"]
    answers = await asyncio.gather(
        *(
            registry.call("PATCH", "/groups/risk", {"name": f"n{n}"}, by=registry.admin, headers={"If-Match": tag})
            for n in range(5)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 4
    same = await registry.call("PATCH", "/groups/risk", {}, by=registry.admin)
    assert same.headers["etag"] == next(a.headers["etag"] for a in answers if a.status_code == 200)


async def test_dry_run_changes_nothing(registry: Registry) -> None:
    answer = await registry.call("POST", "/groups?dry_run=true", {"id": "risk"}, by=registry.admin)
    assert answer.status_code == 201
    assert (await registry.call("GET", "/groups/risk", by=registry.admin)).status_code == 404


async def test_only_admins_set_the_quota_and_the_switch(registry: Registry) -> None:
    mia = await registry.people.add("mia", groups=[("risk", "manage")])
    assert (await registry.call("PATCH", "/groups/risk", {"name": "Risk!"}, by=mia)).json()["name"] == "Risk!"
    for change in ({"quota": {"cpu": 1}}, {"quota": None}, {"deployment_enabled": False}, {"name": "x", "quota": None}):
        assert (await registry.call("PATCH", "/groups/risk", change, by=mia)).json()["permission"] == "admin"


async def test_quota_shows_what_live_deployments_have_reserved(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk", "quota": {"cpu": 4}})
    await registry.deploy("churn", group="risk", cpu="1.5", memory=100, gpu="0.2")
    await registry.deploy("score", group="risk", cpu="2", memory=50)
    await registry.deploy("asleep", group="risk", cpu="64", stopped=True)
    await registry.deploy("gone", group="risk", cpu="64", deleted_at=datetime.now(UTC))
    quota = await registry.call("GET", "/groups/risk/quota", by=registry.admin)
    assert quota.json() == {
        "cpu": {"used": 3.5, "limit": 4.0},
        "memory": {"used": 150, "limit": None},
        "gpu": {"used": 0.2, "limit": None},
        "deployments": {"used": 2, "limit": None},
        "by": [
            {"deployment": "score", "created_by": "ana", "cpu": 2.0, "memory": 50, "gpu": 0.0},
            {"deployment": "churn", "created_by": "ana", "cpu": 1.5, "memory": 100, "gpu": 0.2},
        ],
    }
    patched = await registry.call("PATCH", "/groups/risk/quota", {"memory": "1Ki"}, by=registry.admin)
    assert (patched.json()["cpu"]["limit"], patched.json()["memory"]["limit"]) == (4.0, 1024)
    put = await registry.call("PUT", "/groups/risk/quota", {"deployments": 1}, by=registry.admin)
    assert [put.json()[name]["limit"] for name in ("cpu", "memory", "gpu", "deployments")] == [None, None, None, 1]
    stale = await registry.call(
        "PUT", "/groups/risk/quota", {}, by=registry.admin, headers={"If-Match": patched.headers["etag"]}
    )
    assert code(stale) == "version_conflict"


async def test_a_group_that_holds_something_stays(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    await registry.make("/models", {"group": "risk", "name": "churn"})
    await registry.deploy("churn", group="risk")
    answer = await registry.call("DELETE", "/groups/risk", by=registry.admin)
    assert (code(answer), answer.json()["deployments"]) == ("in_use", ["churn"])
    await registry.make("/groups", {"id": "past"})
    await registry.deploy("old", group="past", deleted_at=datetime.now(UTC))
    assert code(await registry.call("DELETE", "/groups/past", by=registry.admin)) == "in_use"


async def test_pages_hold_every_group_once(registry: Registry) -> None:
    for number in range(7):
        await registry.make("/groups", {"id": f"g{number}", "name": f"Team 100%_{number}"})
    seen, cursor = [], ""
    while True:
        page = (await registry.call("GET", f"/groups?limit=3&count=true&q=100%25_{cursor}", by=registry.admin)).json()
        assert page["total"] == 7
        seen += [group["id"] for group in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"g{number}" for number in range(7)]
