"""What the reconciler does when things go wrong: broken models, dead gateways, crashes of its own."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from services.deployer.app import create_with
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Cause, Phase, Template, Workload
from services.deployer.reconciler import Reconciler
from services.deployer.records import Records
from shared.reconcile import LeaseLost, Leases
from shared.schema import Deployment, Replica, Revision, Route
from shared.service import Core
from tests.deployer.conftest import Deployer, eventually, settings_of
from tests.deployer.fakes import AWAY, failure
from tests.support.services import serving


def breaks(version: str, cause: Cause) -> Any:
    """Replicas of that model version fail, others come up."""

    def outcome(template: Template) -> Any:
        assert template.model
        return failure(cause, code=65) if template.model.version == int(version) else True

    return outcome


async def test_a_broken_model_fails_at_once_with_its_cause(deployer: Deployer) -> None:
    deployer.platform.outcome = breaks("1", Cause.MODEL_LOAD)
    document = await deployer.deploy()
    assert document["status"]["phase"] == "Failed"
    told = document["status"]["versions"][0]["failure"]
    assert told["cause"] == "model_load"
    assert told["replica"] == deployer.platform.started[0]
    assert told["evidence"] == {"exit_code": 65, "log": ["last words"]}
    assert told["advice"]
    (replica,) = (await deployer.ok("GET", "/deployments/churn/replicas"))["items"]
    assert replica["failure"]["cause"] == "model_load"
    # It heals by itself.
    deployer.platform.outcome = lambda _: True
    deployer.platform.settle()
    healed = await deployer.until_phase("Deployed")
    assert healed["status"]["versions"][0]["failure"] is None


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.OUT_OF_MEMORY, Cause.MODEL_DOWNLOAD])
async def test_an_accident_is_tried_again_before_it_is_a_failure(deployer: Deployer, cause: Cause) -> None:
    deployer.platform.outcome = breaks("1", cause)
    await deployer.ok("POST", "/deployments", {"model": "risk/churn/1"})
    await deployer.until(lambda d: d["status"]["observed_generation"] == 1)
    assert (await deployer.ok("GET", "/deployments/churn"))["status"]["phase"] == "Deploying"
    for _ in range(3):
        deployer.platform.settle()
    failed = await deployer.until_phase("Failed")
    assert failed["status"]["versions"][0]["failure"]["cause"] == cause


async def test_a_failing_update_leaves_the_old_ones_serving(deployer: Deployer) -> None:
    await deployer.deploy(replicas=2)
    old = set(deployer.platform.started)
    deployer.platform.outcome = breaks("2", Cause.MODEL_LOAD)
    document = await deployer.ok(
        "PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", {"model": "risk/churn/2"}
    )
    assert document["status"]["phase"] == "Failed"
    ready = next(each for each in document["status"]["conditions"] if each["type"] == "Ready")
    assert "2 replicas of the specification before go on serving" in ready["message"]
    assert deployer.gateway.routed[UUID(document["uid"])] == old
    back = await deployer.ok("POST", "/deployments/churn/rollback?wait=settled&timeout=10", {"revision": 1})
    assert back["status"]["phase"] == "Deployed"
    assert deployer.gateway.routed[UUID(document["uid"])] == old
    await eventually(lambda: {replica.id for replica in deployer.platform.live()} == old)


async def test_with_the_gateway_dead_nothing_routed_is_ended_and_nothing_is_called_deployed(
    deployer: Deployer,
) -> None:
    await deployer.deploy(replicas=2)
    old = set(deployer.platform.started)
    deployer.gateway.alive = False
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": "1"}})
    await deployer.until(lambda d: d["status"]["observed_generation"] == 2 and d["status"]["versions"][0]["ready"] == 1)
    assert len(deployer.platform.live()) == 3, "what was reserved: two and the surge"
    document = await deployer.ok("GET", "/deployments/churn")
    assert document["status"]["phase"] == "Deploying"
    routes = next(each for each in document["status"]["conditions"] if each["type"] == "RoutesEnforced")
    assert (routes["status"], routes["reason"]) == ("False", "Waiting")
    assert not document["status"]["traffic"]["enforced"]
    assert not deployer.platform.ended
    assert (await deployer.call("DELETE", "/deployments/churn?wait=settled&timeout=0.2")).status_code == 204
    assert not deployer.platform.ended
    deployer.gateway.alive = True
    deployer.gateway.wake()
    await eventually(lambda: not deployer.platform.replicas)
    assert old <= set(deployer.platform.ended)


async def test_with_the_gateway_dead_rollouts_start_within_the_surge_and_drain_nothing_that_serves(
    deployer: Deployer,
) -> None:
    document = await deployer.deploy(replicas=4)
    old = {replica.id for replica in deployer.platform.live()}
    deployer.gateway.alive = False
    for generation in (2, 3):
        await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": str(generation)}})
        await deployer.until(lambda d, wanted=generation: d["status"]["observed_generation"] == wanted)
        await eventually(lambda: len(deployer.platform.live()) == 5)
        for _ in range(3):  # it may look as often as it likes
            seen = deployer.platform.observed
            deployer.platform.touch(deployer.platform.all()[0])
            await eventually(lambda seen=seen: deployer.platform.observed > seen)
        assert old <= {replica.id for replica in deployer.platform.all(phase=Phase.READY)}
        assert len(deployer.platform.live()) == 5
    assert not deployer.platform.ended
    deployer.gateway.alive = True
    deployer.gateway.wake()
    await deployer.until_phase("Deployed")
    await eventually(lambda: len(deployer.platform.live()) == 4)
    assert old <= set(deployer.platform.ended)
    assert deployer.gateway.routed[UUID(document["uid"])] == {replica.id for replica in deployer.platform.live()}


async def test_a_deleted_version_ends_once_no_request_reaches_it(deployer: Deployer) -> None:
    await deployer.deploy()
    await deployer.ok("POST", "/deployments/churn/versions?wait=settled&timeout=10", {"model": "risk/churn/2"})
    deployer.gateway.alive = False
    await deployer.ok("DELETE", "/deployments/churn/versions/2")
    await deployer.until(lambda d: d["status"]["observed_generation"] == 3)
    assert len(deployer.platform.live()) == 2
    deployer.gateway.alive = True
    deployer.gateway.wake()
    await deployer.until_phase("Deployed")
    await eventually(lambda: [replica.workload.version for replica in deployer.platform.all()] == [1])


async def test_never_a_stuck_deploying(deployer: Deployer) -> None:
    deployer.platform.outcome = lambda _: False
    document = await deployer.deploy(progress_deadline=1)
    assert document["status"]["phase"] == "Failed"
    assert document["status"]["versions"][0]["failure"]["cause"] == "progress_deadline"
    progress = next(each for each in document["status"]["conditions"] if each["type"] == "Progressing")
    assert progress["reason"] == "ProgressDeadlineExceeded"
    # A change that makes no fresh replica does not set the deadline back.
    changed = await deployer.ok("PATCH", "/deployments/churn?wait=settled&timeout=10", {"description": "hm"})
    assert changed["status"]["phase"] == "Failed"
    deployer.platform.outcome = lambda _: True
    deployer.platform.settle()
    await deployer.until_phase("Deployed")


async def test_a_crash_later_is_seen_and_heals(deployer: Deployer) -> None:
    await deployer.deploy(replicas=2)
    replica = deployer.platform.live()[0]
    deployer.platform.crash(replica, failure(Cause.CRASH))
    hurt = await deployer.until(lambda d: d["status"]["phase"] == "Deploying")
    assert hurt["status"]["versions"][0]["ready"] == 1
    await eventually(lambda: not deployer.gateway.routes(replica.id))
    deployer.platform.settle()
    await deployer.until_phase("Deployed")
    assert deployer.gateway.routes(replica.id)
    said = [step["step"] for step in (await deployer.ok("GET", "/deployments/churn/log"))["items"]]
    assert said[:1] == ["deployed"]
    assert {"accepted", "replica_failed", "replica_ready", "deploying"} <= set(said)


async def test_a_replica_that_came_back_elsewhere_is_routed_anew(deployer: Deployer) -> None:
    """It crashed and was Ready again before anyone looked: only its port tells."""
    document = await deployer.deploy()

    async def routed() -> int:
        async with deployer.core.reading() as session:
            statement = select(Route.endpoints_generation).where(Route.uid == UUID(document["uid"]))
            return (await session.execute(statement)).scalar_one()

    before = await routed()
    (replica,) = deployer.platform.all()
    replica.port, replica.restarts = 20001, 1
    deployer.platform.touch(replica)

    async def again() -> bool:
        return await routed() > before

    await eventually(again)
    (shown,) = (await deployer.ok("GET", "/deployments/churn/replicas"))["items"]
    assert shown["address"] == "127.0.0.1:20001"
    await deployer.until_phase("Deployed")


async def test_what_nobody_knows_is_ended(deployer: Deployer) -> None:
    stray = Workload(uuid4(), "stray", "risk", 1, Template(runtime="x", command=("x",)), 1)
    await deployer.platform.apply(stray)
    await eventually(lambda: not deployer.platform.replicas)


async def test_the_platform_away_is_said_and_nothing_is_forgotten(deployer: Deployer) -> None:
    await deployer.deploy()
    routed = dict(deployer.gateway.routed)
    deployer.platform.fail_at = {"apply": AWAY}
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"replicas": 2})
    document = await deployer.until_phase("Deployed")
    assert document["status"]["versions"][0]["ready"] == 2
    assert routed.keys() == deployer.gateway.routed.keys()
    steps = (await deployer.ok("GET", "/deployments/churn/log"))["items"]
    assert [step["step"] for step in steps].count("accepted") == 2


async def test_what_the_platform_lacks_is_said_by_a_deployer_that_works_on(deployer: Deployer) -> None:
    assert (await deployer.client.get("/readyz")).json() == {"status": "ok"}
    deployer.platform.trouble = "the API server does not answer"
    ready = await deployer.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "degraded", "detail": "platform: the API server does not answer"},
    )


async def _spoil(deployer: Deployer, **changes: Any) -> None:
    """Its first version's row becomes what no API would have written, as after a lost key or an older release."""
    async with deployer.core.sessions.begin() as session:
        row = (await session.execute(select(Deployment))).scalar_one()
        row.spec = {**row.spec, "versions": [{**row.spec["versions"][0], **changes}]}
        row.generation += 1


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [({"env": {"KEY": {"sealed": "AAAA"}}}, "SecretUnreadable"), ({"runtime": "older"}, "RuntimeUnknown")],
)
async def test_what_cannot_be_built_is_failed_says_why_and_can_be_stopped(
    deployer: Deployer, spoilt: dict[str, Any], reason: str
) -> None:
    document = await deployer.deploy(env={"KEY": {"secret": "s"}})
    uid, serving = UUID(document["uid"]), set(deployer.platform.started)
    await _spoil(deployer, **spoilt)
    failed = await deployer.until_phase("Failed")
    progress = next(each for each in failed["status"]["conditions"] if each["type"] == "Progressing")
    assert (progress["status"], progress["reason"]) == ("False", reason)
    said = (await deployer.ok("GET", "/deployments/churn/log"))["items"][0]
    assert said["message"] == f"The deployment is Failed: {progress['message']}"
    assert deployer.gateway.routed[uid] == serving
    stopped = await deployer.ok("POST", "/deployments/churn/stop?wait=settled&timeout=10")
    assert stopped["status"]["phase"] == "Stopped"
    assert not deployer.platform.live()
    started = await deployer.ok("POST", "/deployments/churn/start?wait=settled&timeout=10")
    assert started["status"]["phase"] == "Failed"
    repaired = {"env": {"KEY": {"secret": "s"}}, "runtime": "inference"}
    document = await deployer.ok("PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", repaired)
    assert document["status"]["phase"] == "Deployed"


@pytest.mark.parametrize("stage", ["apply", "applied", "observe"])
async def test_a_deployer_that_dies_at_any_point_does_nothing_twice(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, deployer: Deployer, stage: str
) -> None:
    await deployer.deploy(replicas=2)
    for change in ({"env": {"A": "1"}}, {"replicas": 3}, {"model": "risk/churn/2"}):
        deployer.platform.fail_at = {stage: RuntimeError("killed")}
        await deployer.ok("PATCH", "/deployments/churn/versions/1", change)
        await eventually(lambda: not deployer.platform.fail_at)
    await deployer.until_phase("Deployed")
    await eventually(lambda: len(deployer.platform.live()) == 3)
    assert len(deployer.platform.all(phase=Phase.READY)) == 3
    assert len(set(deployer.platform.started)) == len(deployer.platform.started)
    async with deployer.core.reading() as session:
        numbers = (await session.execute(select(Revision.number).order_by(Revision.number))).scalars().all()
    assert list(numbers) == [1, 2, 3, 4]


async def test_a_new_deployer_takes_over_where_the_old_one_was(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, deployer: Deployer
) -> None:
    """The first one's reconciler is stopped between acting and recording; another process goes on."""
    records = Records(deployer.core.direct)
    lost = Reconciler(records=records, platform=deployer.platform, vault=EnvVault(deployer.core.vault))
    await deployer.deploy()
    uid = (await deployer.ok("GET", "/deployments/churn"))["uid"]
    # Its lease has been taken over since, so it acts but must not record. The deployer that runs waits for that one.
    others = Leases(deployer.core.direct, owner="others")
    while (old := await others.claim(f"deployments/{uid}")) is None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)  # what it has still to do
    new = await others.claim(f"deployments/{uid}")
    assert new is not None
    deployer.platform.crash(deployer.platform.live()[0], failure(Cause.CRASH))
    with pytest.raises(LeaseLost):
        await lost.reconcile(uid, old)
    await others.release(new)
    deployer.platform.settle()
    await deployer.until_phase("Deployed")
    assert len(deployer.platform.started) == 1


async def test_two_deployers_do_not_fight(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, deployer: Deployer
) -> None:
    settings = settings_of(environment, monkeypatch, MOORAGE_RESYNC_SECONDS="0.2")
    second = Core(settings, service="second")
    async with serving(create_with(settings, core=second, platform=deployer.platform)):
        bodies = [{"model": "risk/churn/1", "replicas": 2} for _ in range(8)]
        made = await asyncio.gather(*(deployer.ok("POST", "/deployments", body) for body in bodies))
        for document in made:
            await deployer.until_phase("Deployed", document["id"])
        changed = [
            deployer.ok("PATCH", f"/deployments/{document['id']}/versions/1", {"model": "risk/churn/2"})
            for document in made
        ]
        await asyncio.gather(*changed)
        for document in made:
            await deployer.until_phase("Deployed", document["id"])
    await eventually(lambda: len(deployer.platform.live()) == 16)
    assert len(deployer.platform.started) == 32


async def test_an_idle_resync_reads_only_what_has_not_settled(deployer: Deployer) -> None:
    await deployer.deploy()
    records = Records(deployer.core.direct)
    await eventually(lambda: _none(records))
    reconciler = Reconciler(records=records, platform=deployer.platform, vault=EnvVault(deployer.core.vault))
    assert list(await reconciler.resync()) == []
    # What went on while nobody looked is found, too.
    (replica,) = deployer.platform.all()
    replica.phase = Phase.FAILED
    assert list(await reconciler.resync()) == [str(replica.workload.uid)]
    replica.phase = Phase.READY


async def _none(records: Records) -> bool:
    return not await records.unsettled()


async def test_the_deadline_is_kept_by_the_clock_it_is_given(deployer: Deployer) -> None:
    deployer.platform.outcome = lambda _: False
    made = await deployer.ok("POST", "/deployments", {"model": "risk/churn/1"})
    await deployer.until(lambda d: d["status"]["observed_generation"] == 1)
    later = datetime.now(UTC) + timedelta(seconds=700)
    reconciler = Reconciler(
        records=Records(deployer.core.direct),
        platform=deployer.platform,
        vault=EnvVault(deployer.core.vault),
        clock=lambda: later,
    )
    # Its own lease, or the deployer would at once say again what its clock says.
    others, found = Leases(deployer.core.direct, owner="another"), []

    async def claimed() -> bool:
        found.append(await others.claim(f"deployments/{made['uid']}"))
        return found[-1] is not None

    await eventually(claimed)
    assert found[-1]
    await reconciler.reconcile(made["uid"], found[-1])
    async with deployer.core.reading() as session:
        row = (await session.execute(select(Deployment))).scalar_one()
        assert row.phase == "Failed"
        assert (await session.execute(select(Replica.routable))).scalars().all() == [False]


async def test_a_lost_event_costs_only_time(deployer: Deployer) -> None:
    """A row that changed without anyone saying so, as after a restore."""
    await deployer.deploy()
    async with deployer.core.sessions.begin() as session:
        await session.execute(update(Deployment).values(stopped=True, generation=2, revision=2))
    deployer.gateway.wake()
    await deployer.until_phase("Stopped")
