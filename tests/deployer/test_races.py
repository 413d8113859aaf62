"""Several at once about one deployment, and what must not wait for them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from services.deployer.deployments import queries
from services.deployer.platforms import Workload
from shared.schema import Deployment, DeploymentStep, Route
from tests.deployer.conftest import Deployer, eventually


def whole(**fields: Any) -> dict[str, Any]:
    return {"group": "risk", "versions": [{"model": "risk/churn/1"}], **fields}


async def test_of_many_who_apply_the_same_one_creates_and_the_others_change_nothing(deployer: Deployer) -> None:
    answers = await asyncio.gather(*(deployer.call("PUT", "/deployments/churn", whole()) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert {answer.json()["revision"] for answer in answers} == {1}


async def test_of_many_who_apply_each_their_own_one_creates_and_the_others_update(deployer: Deployer) -> None:
    await deployer.quota(quota_deployments=1)
    bodies = [whole(description=f"by {number}") for number in range(8)]
    answers = await asyncio.gather(*(deployer.call("PUT", "/deployments/churn", body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert sorted(answer.json()["revision"] for answer in answers) == list(range(1, 9))
    revisions = await deployer.ok("GET", "/deployments/churn/revisions")
    assert [revision["action"] for revision in revisions["items"]] == ["update"] * 7 + ["create"]


@pytest.mark.parametrize(("group", "outcome"), [("eves", (409, "name_taken")), ("risk", (422, "validation_failed"))])
async def test_whoever_waits_for_anothers_id_is_told_no_more_than_may_be_seen(
    deployer: Deployer, group: str, outcome: tuple[int, str]
) -> None:
    """The first has it and has not committed; of a group that one may see, it would be an update of another's."""
    await deployer.people.add("eve", groups=[("eves", "edit")])
    bob = await deployer.people.add("bob", groups=[("risk", "edit"), ("bobs", "edit")])
    async with deployer.core.sessions.begin() as session:
        made = {"name": "new", "spec": {"versions": []}, "created_by": "eve", "updated_by": "eve", "stopped": True}
        session.add(Deployment(uid=uuid4(), id="new", group_id=group, **made))
        await session.flush()
        waiting = asyncio.create_task(deployer.call("PUT", "/deployments/new", whole(group="bobs"), by=bob))
        await eventually(lambda: waits_for_a_lock(deployer))
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == outcome


async def waits_for_a_lock(deployer: Deployer) -> bool:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with deployer.core.sessions() as session:
        return (await session.execute(waiting)).scalar_one() > 0


async def test_what_only_refers_to_a_deployment_does_not_wait_for_its_change(deployer: Deployer) -> None:
    """The reconciler notes steps and replicas, and the gateway its routes, while a change is being admitted."""
    await deployer.deploy()
    async with deployer.core.sessions.begin() as changing:
        uid = (await changing.execute(select(Deployment.uid))).scalar_one()
        assert await queries.deployment_to_change(changing, uid) is not None
        async with asyncio.timeout(5), deployer.core.sessions.begin() as session:
            session.add(DeploymentStep(uid=uid, step="noted", message="meanwhile"))
            route = await session.get(Route, uid)
            assert route is not None
            route.weights = {"1": 100}
        second = asyncio.create_task(deployer.call("PATCH", "/deployments/churn", {"description": "later"}))
        await eventually(lambda: waits_for_a_lock(deployer))
        assert not second.done(), "another change waits"
    assert (await second).status_code == 200


async def test_creations_are_answered_though_the_platform_hangs(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later ones as well, which wait for those before them to be begun."""
    go_on = asyncio.Event()
    apply = deployer.platform.apply

    async def hang(workload: Workload) -> None:
        await go_on.wait()
        await apply(workload)

    monkeypatch.setattr(deployer.platform, "apply", hang)
    many = deployer.app.state.settings.reconcile_workers + 4
    bodies = [{"id": f"churn-{number}", "model": "risk/churn/1"} for number in range(many)]
    answers = await asyncio.gather(*(deployer.call("POST", "/deployments", body) for body in bodies))
    assert {answer.status_code for answer in answers} == {201}
    assert all(answer.headers["Location"] and answer.json()["uid"] for answer in answers)
    go_on.set()
    for body in bodies:
        await deployer.until_phase("Deployed", body["id"])


async def test_only_a_creation_waits_for_room(deployer: Deployer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def room(*, within: float) -> None:
        waited.append(within)

    monkeypatch.setattr(deployer.app.state.controller, "room", room)
    await deployer.ok("PUT", "/deployments/churn?dry_run=true", whole())
    assert waited == []
    await deployer.ok("PUT", "/deployments/churn", whole())
    assert len(waited) == 1
    await deployer.ok("PUT", "/deployments/churn", whole(description="changed"))
    await deployer.ok("PATCH", "/deployments/churn", {"description": "again"})
    assert len(waited) == 1
    await deployer.ok("POST", "/deployments", {"id": "other", "model": "risk/churn/1"})
    assert len(waited) == 2
