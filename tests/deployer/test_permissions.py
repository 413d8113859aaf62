"""Who may what, beyond the matrix (tests/permissions): versions that a change leaves out, locks, the history."""

import asyncio

from sqlalchemy import select

from shared.schema import Deployment
from tests.deployer.conftest import Deployer

CHANGES = [
    ("PATCH", "/deployments/churn", {"description": "x"}),
    ("PUT", "/deployments/churn", {"versions": [{"model": "risk/churn/3"}, {"model": "risk/churn/2"}]}),
    ("POST", "/deployments/churn/versions", {"model": "risk/churn/2"}),
    ("PATCH", "/deployments/churn/versions/1", {"replicas": 2}),
    ("DELETE", "/deployments/churn/versions/1", None),
    ("POST", "/deployments/churn/redeploy", None),
    ("POST", "/deployments/churn/rollback", {"revision": 2}),
    ("POST", "/deployments/churn/stop", None),
    ("DELETE", "/deployments/churn", None),
]
LEAVES_ONE_OUT = [
    ("PUT", "/deployments/churn", {"versions": [{"model": "risk/churn/1"}]}),
    ("PATCH", "/deployments/churn", {"versions": [{"number": 2, "model": "risk/churn/2"}]}),
    (
        "PUT",
        "/deployments/churn",
        {"versions": [{"number": 1, "model": "risk/churn/1"}, {"number": 3, "model": "risk/churn/2"}]},
    ),
    ("POST", "/deployments/churn/rollback", {"revision": 1}),
]


async def test_to_leave_a_version_out_is_to_delete_it(deployer: Deployer) -> None:
    await deployer.deploy()
    await deployer.ok("POST", "/deployments/churn/versions", {"model": "risk/churn/2"})
    editor = await deployer.people.add("eli", groups=[("risk", "edit")])
    manager = await deployer.people.add("mia", groups=[("risk", "manage")])
    for method, path, body in LEAVES_ONE_OUT:
        for by in (deployer.ana, manager):
            await deployer.ok(method, f"{path}?dry_run=true", body, by=by)
        for query in ("", "?dry_run=true"):
            denied = await deployer.call(method, path + query, body, by=editor)
            assert (denied.status_code, denied.json().get("permission")) == (403, "manage"), denied.text


async def test_whoever_may_not_change_it_does_not_wait_for_its_lock(deployer: Deployer) -> None:
    await deployer.deploy()
    rob = await deployer.people.add("rob", groups=[("risk", "read")])
    eve = await deployer.people.add("eve", groups=[("eves", "manage")])
    async with deployer.core.sessions.begin() as session, asyncio.timeout(5):
        await session.execute(select(Deployment.uid).where(Deployment.id == "churn").with_for_update())
        for method, path, body in CHANGES:
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
