"""Who may do what (R2): read sees, edit deploys and deletes its own, manage anything, strangers see nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from shared.schema import Deployment
from tests.deployer.conftest import Deployer

READS = [
    ("GET", "/deployments/churn", None),
    ("GET", "/deployments/churn/versions", None),
    ("GET", "/deployments/churn/versions/1", None),
    ("GET", "/deployments/churn/revisions", None),
    ("GET", "/deployments/churn/revisions/1", None),
    ("GET", "/deployments/churn/log", None),
    ("GET", "/deployments/churn/replicas", None),
    ("GET", "/deployments/churn/replicas/churn-1-1/log", None),
]
EDITS = [
    ("PATCH", "/deployments/churn", {"description": "x"}),
    ("PUT", "/deployments/churn", {"versions": [{"model": "risk/churn/3"}, {"model": "risk/churn/2"}]}),
    ("PATCH", "/deployments/churn", {"versions": [{"model": "risk/churn/3"}, {"model": "risk/churn/2"}]}),
    ("POST", "/deployments/churn/versions", {"model": "risk/churn/2"}),
    ("PUT", "/deployments/churn/versions/1", {"model": "risk/churn/2"}),
    ("PATCH", "/deployments/churn/versions/1", {"replicas": 2}),
    ("POST", "/deployments/churn/redeploy", None),
    ("POST", "/deployments/churn/rollback", {"revision": 2}),
    ("POST", "/deployments/churn/start", None),
]
OWNS = [
    ("POST", "/deployments/churn/stop", None),
    ("DELETE", "/deployments/churn", None),
    ("DELETE", "/deployments/churn/versions/1", None),
    ("PUT", "/deployments/churn", {"versions": [{"model": "risk/churn/1"}]}),
    ("PATCH", "/deployments/churn", {"versions": [{"number": 2, "model": "risk/churn/2"}]}),
    (
        "PUT",
        "/deployments/churn",
        {"versions": [{"number": 1, "model": "risk/churn/1"}, {"number": 3, "model": "risk/churn/2"}]},
    ),
    ("POST", "/deployments/churn/rollback", {"revision": 1}),
]
CREATES = [("POST", "/deployments", {"group": "risk", "model": "risk/churn/1"})]


async def test_the_matrix(deployer: Deployer) -> None:
    await deployer.deploy()
    await deployer.ok("POST", "/deployments/churn/versions?wait=settled&timeout=10", {"model": "risk/churn/2"})
    people = {
        "reader": await deployer.people.add("rob", groups=[("risk", "read")]),
        "editor": await deployer.people.add("eli", groups=[("risk", "edit")]),
        "manager": await deployer.people.add("mia", groups=[("risk", "manage")]),
        "stranger": await deployer.people.add("eve", groups=[("eves", "manage")]),
        "admin": await deployer.people.add("root", admin=True),
        "owner": deployer.ana,
    }

    async def statuses(who: str, requests: list[tuple[str, str, Any]]) -> set[int]:
        found = set()
        for method, path, body in requests:
            answer = await deployer.call(
                method, f"{path}?dry_run=true" if method != "GET" else path, body, by=people[who]
            )
            found.add(answer.status_code if answer.status_code >= 400 else 200)
        return found

    expected: list[tuple[str, list[tuple[str, str, Any]], Callable[[str], bool], int]] = [
        ("reads", READS, lambda who: True, 200),
        ("edits", EDITS, lambda who: who != "reader", 403),
        ("owns", OWNS, lambda who: who in ("owner", "manager", "admin"), 403),
        ("creates", CREATES, lambda who: who != "reader", 403),
    ]
    for what, requests, may, refused in expected:
        for who in people:
            wanted = 404 if who == "stranger" else 200 if may(who) else refused
            assert await statuses(who, requests) == {wanted}, (what, who)
    nobody = await deployer.call("GET", "/deployments/churn", by={"Authorization": "Bearer no"})
    assert nobody.status_code == 401
    denied = await deployer.call("DELETE", "/deployments/churn", by=people["editor"])
    assert denied.json()["permission"] == "manage"
    assert (await deployer.ok("GET", "/deployments", by=people["stranger"]))["items"] == []
    assert len((await deployer.ok("GET", "/deployments", by=people["admin"]))["items"]) == 1


async def test_whoever_may_not_change_it_does_not_wait_for_its_lock(deployer: Deployer) -> None:
    await deployer.deploy()
    rob = await deployer.people.add("rob", groups=[("risk", "read")])
    eve = await deployer.people.add("eve", groups=[("eves", "manage")])
    async with deployer.core.sessions.begin() as session, asyncio.timeout(5):
        await session.execute(select(Deployment.uid).where(Deployment.id == "churn").with_for_update())
        for method, path, body in EDITS + OWNS:
            assert (await deployer.call(method, path, body, by=rob)).status_code == 403
            assert (await deployer.call(method, path, body, by=eve)).status_code == 404


async def test_the_history_outlives_the_deployment_for_those_who_may_read_the_group(deployer: Deployer) -> None:
    first = await deployer.deploy(description="the first")
    await deployer.ok("DELETE", "/deployments/churn?wait=settled&timeout=10")
    rob = await deployer.people.add("rob", groups=[("risk", "read")])
    eve = await deployer.people.add("eve", groups=[("eves", "manage")])
    history = await deployer.ok("GET", "/deployments/churn/revisions", by=rob)
    assert [each["number"] for each in history["items"]] == [2, 1]
    log = await deployer.ok("GET", "/deployments/churn/log", by=rob)
    assert log["items"][0]["step"] == "deleted"
    assert (await deployer.call("GET", "/deployments/churn/revisions", by=eve)).status_code == 404
    # Another one takes the id; the first is still known by its uid.
    await deployer.deploy(description="the second")
    assert len((await deployer.ok("GET", "/deployments/churn/revisions"))["items"]) == 1
    old = await deployer.ok("GET", f"/deployments/{first['uid']}/revisions/1")
    assert old["spec"]["description"] == "the first"
