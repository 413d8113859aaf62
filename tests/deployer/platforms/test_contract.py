"""The contract of `Platform`, which every implementation passes as it is: see `conftest.world`."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.deployer.platforms import Cause, Model, Phase, Replica, ReplicaNotFound
from tests.deployer.platforms.world import (
    MIB,
    Routes,
    World,
    ask,
    first,
    gone,
    lines,
    load,
    present,
    ready,
    settled,
    tell,
    who,
)


async def test_replicas_come_up_and_answer(world: World) -> None:
    wanted = world.workload(2)
    replicas = await world.drive(wanted)
    assert len({await who(replica) for replica in replicas}) == 2
    assert [(r.version, r.restarts, r.failure) for r in replicas] == [(1, 0, None)] * 2
    assert all(r.ready_since is not None and r.ready_since >= r.started_at for r in replicas)
    assert len({r.id for r in replicas}) == 2


async def test_what_a_replica_uses_is_measured(world: World) -> None:
    if not world.measures:
        pytest.skip("nobody measures here what a replica uses")
    wanted = world.workload()
    await world.drive(wanted)
    (replica,) = await world.eventually(wanted.uid, first(lambda r: r.usage is not None and r.usage.cpu_seconds > 0))
    assert replica.usage is not None
    assert 5 * MIB < replica.usage.memory < 200 * MIB


async def test_applying_again_changes_nothing(world: World) -> None:
    wanted = world.workload(2)
    before = await world.drive(wanted)
    runs = [await who(replica) for replica in before]
    routed = frozenset(r.id for r in before)
    for _ in range(3):
        await world.platform.apply(replace(wanted, keep=routed, serving=routed))
    after = await world.platform.observe(wanted.uid)
    assert [await who(replica) for replica in after] == runs
    assert [(r.id, r.port, r.restarts) for r in after] == [(r.id, r.port, r.restarts) for r in before]


async def test_several_applies_at_once_are_one(world: World) -> None:
    wanted = world.workload(3)
    await asyncio.gather(*(world.platform.apply(wanted) for _ in range(8)))
    seen = await world.eventually(wanted.uid, lambda rs: len(rs) >= 3)
    assert len(seen) == 3
    assert {r.id for r in await world.drive(wanted)} == {r.id for r in seen}


async def test_absent_is_success(world: World) -> None:
    uid = uuid4()
    await world.platform.delete(uid)
    await world.platform.delete(uid, version=3)
    assert await world.platform.observe(uid) == []
    with pytest.raises(ReplicaNotFound):
        await lines(world.platform.logs(uid, "nobody"))


async def test_scaling_up_and_down_leaves_the_others_alone(world: World) -> None:
    wanted = world.workload(1)
    (first,) = await world.drive(wanted)
    run = await who(first)
    assert len(ready(await world.drive(replace(wanted, replicas=3)))) == 3
    (left,) = present(await world.drive(wanted))
    assert (left.id, await who(left)) == (first.id, run)


async def test_a_routed_replica_is_not_ended(world: World) -> None:
    wanted = world.workload(2)
    keep = frozenset(r.id for r in await world.drive(wanted))
    stopped = replace(wanted, replicas=0, keep=keep)
    for _ in range(5):  # longer than any settling
        await world.platform.apply(stopped)
        await asyncio.sleep(0.1)
    replicas = await world.platform.observe(wanted.uid)
    assert [r.phase for r in replicas] == [Phase.DRAINING] * 2
    for replica in replicas:
        await who(replica)
    await world.drive(replace(stopped, keep=frozenset()))


async def test_a_rolling_update_fails_no_request(world: World) -> None:
    wanted, routes = world.workload(2), Routes()
    old = {r.id for r in await world.drive(wanted, routes=routes)}
    least = 2

    def watched(replicas: list) -> bool:
        nonlocal least
        least = min(least, len(ready(replicas)))
        return settled(changed)(replicas)

    async with load(routes) as failed:
        for nonce in "ab":
            changed = replace(wanted, template=world.template(nonce=nonce))
            replicas = await world.drive(changed, watched, routes=routes)
    assert failed == []
    assert least == 2
    assert not old & {r.id for r in present(replicas)}


async def test_a_rollout_waits_until_the_fresh_ones_are_acknowledged(world: World) -> None:
    wanted = world.workload(2)
    old = frozenset(r.id for r in await world.drive(wanted))
    changed = replace(wanted, template=world.template(nonce="fresh"), serving=old)

    def surged(replicas: list[Replica]) -> bool:
        return len(ready(replicas)) == 3

    async with asyncio.timeout(world.deadline):
        while not surged(replicas := await world.platform.observe(wanted.uid)):
            await world.platform.apply(replace(changed, keep=old))
            await asyncio.sleep(0.05)
    everyone = frozenset(r.id for r in replicas)
    for _ in range(5):  # longer than any settling
        await world.platform.apply(replace(changed, keep=everyone))
        await asyncio.sleep(0.1)
    replicas = await world.platform.observe(wanted.uid)
    assert surged(replicas)
    assert {r.id for r in replicas} == everyone
    assert not old & {r.id for r in present(await world.drive(changed))}


async def test_a_broken_template_takes_nothing_down_and_is_replaced(world: World) -> None:
    wanted, routes = world.workload(2), Routes()
    good = {r.id for r in await world.drive(wanted, routes=routes)}
    broken = replace(wanted, template=world.template(FAIL="65"))
    async with load(routes) as failed:
        replicas = await world.drive(broken, lambda rs: any(r.phase is Phase.FAILED for r in rs), routes=routes)
        assert good == {r.id for r in ready(replicas)}
        await world.drive(replace(wanted, template=world.template(nonce="repaired")), routes=routes)
    assert failed == []


async def test_in_a_broken_update_the_replicas_before_are_kept_alive_by_the_next_deployer_too(world: World) -> None:
    wanted, routes = world.workload(template=world.template(SIDE="before")), Routes()
    (good,) = await world.drive(wanted, routes=routes)
    broken = replace(wanted, template=world.template(FAIL="65"))
    await world.drive(broken, lambda rs: any(r.phase is Phase.FAILED for r in rs), routes=routes)
    await world.again()
    await tell(good, "/crash")

    def is_back(replicas: list[Replica]) -> bool:
        return any(r.id == good.id and r.restarts == 1 for r in ready(replicas))

    replicas = await world.drive(broken, is_back, routes=routes)
    assert '"SIDE": "before"' in await ask(next(r for r in replicas if r.id == good.id), "/env")


async def test_a_crashed_replica_is_started_again(world: World) -> None:
    wanted = world.workload()
    (before,) = await world.drive(wanted)
    await tell(before, "/crash?7")
    (after,) = await world.eventually(wanted.uid, first(lambda r: r.restarts == 1 and r.phase is Phase.READY))
    assert after.id == before.id
    assert after.failure is None
    assert await who(after) != ""
    previous = await lines(world.platform.logs(wanted.uid, after.id, previous=True))
    assert previous == ["serving", "the end is near"]
    assert await lines(world.platform.logs(wanted.uid, after.id)) == ["serving"]


async def test_a_crash_loop_is_failed_with_cause_and_lines(world: World) -> None:
    wanted = world.workload(template=world.template(FAIL="1"))
    (replica,) = await world.drive(wanted, first(lambda r: r.phase is Phase.FAILED))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.CRASH
    # The last lines may have to be fetched from where it ran.
    (replica,) = await world.eventually(wanted.uid, first(lambda r: bool(r.failure and r.failure.evidence.log)))
    assert replica.failure is not None
    assert replica.failure.evidence.exit_code == 1
    assert replica.failure.evidence.log[-1].endswith(" cannot load the model")
    assert replica.failure.advice
    replicas = await world.eventually(wanted.uid, first(lambda r: r.restarts >= 2))
    assert replicas[0].phase is Phase.FAILED, "also while it is tried again"


@pytest.mark.parametrize(("code", "cause"), [("65", Cause.MODEL_LOAD), ("66", Cause.MODEL_DOWNLOAD)])
async def test_the_model_servers_last_word_is_the_failure(world: World, code: str, cause: Cause) -> None:
    word = json.dumps({"cause": str(cause), "message": "no class InferenceService", "advice": "write one"})
    wanted = world.workload(template=world.template(FAIL=code, LAST_WORD=word))
    (replica,) = await world.drive(wanted, first(lambda r: r.failure is not None))
    assert replica.failure is not None
    assert replica.failure.cause is cause
    assert replica.failure.message == "no class InferenceService"
    assert replica.failure.advice == "write one"


async def test_too_much_memory_is_a_verdict(world: World) -> None:
    wanted = world.workload(template=world.template(memory=64 * MIB))
    (replica,) = await world.drive(wanted)
    await tell(replica, "/eat?200")
    (replica,) = await world.eventually(wanted.uid, first(lambda r: r.failure is not None))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.OUT_OF_MEMORY
    assert replica.failure.evidence.exit_code == 137


async def test_a_replica_that_never_answers_is_told_from_one_that_crashes(world: World) -> None:
    wanted = world.workload(template=world.template(MUTE="1", start_seconds=0.5))
    (replica,) = await world.drive(wanted, first(lambda r: r.failure is not None))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.PROBE


async def test_a_sick_replica_is_unready_until_it_is_well(world: World) -> None:
    wanted = world.workload()
    (replica,) = await world.drive(wanted)
    await ask(replica, "/sick")
    await world.eventually(wanted.uid, first(lambda r: r.phase is Phase.UNREADY))
    await ask(replica, "/well")
    (after,) = await world.eventually(wanted.uid, first(lambda r: r.phase is Phase.READY))
    assert after.restarts == 0


async def test_logs_by_tail_time_and_as_they_come(world: World) -> None:
    wanted = world.workload()
    (replica,) = await world.drive(wanted)
    for number in range(5):
        await ask(replica, f"/say?{number}")
    everything: list[str] = []
    async with asyncio.timeout(10):  # what was printed is a moment behind the answer
        while len(everything) < 6:
            everything = await lines(world.platform.logs(wanted.uid, replica.id))
    assert everything == ["serving", "0", "1", "2", "3", "4"]
    assert await lines(world.platform.logs(wanted.uid, replica.id, tail=2)) == ["3", "4"]
    assert await lines(world.platform.logs(wanted.uid, replica.id, since=datetime.now(UTC))) == []
    followed = world.platform.logs(wanted.uid, replica.id, tail=1, follow=True)
    moment, text = (await anext(followed)).split(" ", 1)
    assert text == "4"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 30
    await ask(replica, "/say?5")
    assert (await anext(followed)).endswith(" 5")
    await world.platform.delete(wanted.uid)
    assert await lines(followed) == ["drained"]


async def test_deleting_leaves_nothing(world: World) -> None:
    wanted = world.workload(2)
    replicas = await world.drive(wanted)
    await world.platform.delete(wanted.uid)
    await world.platform.delete(wanted.uid)
    await gone(world, wanted.uid)
    assert await world.platform.observe(wanted.uid) == []
    assert world.leftovers(wanted.uid) == []
    for replica in replicas:
        with pytest.raises(OSError):  # noqa: PT011 - refused, by whatever means
            await who(replica)


async def test_deleting_one_version_leaves_the_other(world: World) -> None:
    one = world.workload()
    two = replace(one, version=2)
    await world.drive(one)
    await world.drive(two)
    await world.platform.delete(one.uid, version=1)
    (left,) = await world.eventually(one.uid, lambda rs: len(rs) == 1)
    assert (left.version, left.phase) == (2, Phase.READY)
    await who(left)


async def test_a_deployment_can_come_back_while_it_is_deleted(world: World) -> None:
    wanted = world.workload()
    (old,) = await world.drive(wanted)
    await world.platform.delete(wanted.uid)
    (new,) = present(await world.drive(wanted))
    assert new.id != old.id
    await who(new)


async def test_a_restarted_deployer_finds_everything_as_it_was(world: World) -> None:
    wanted = world.workload(2)
    before = await world.drive(wanted)
    runs = [await who(replica) for replica in before]
    await world.again()
    assert await world.platform.deployments() == {wanted.uid}
    after = await world.platform.observe(wanted.uid)
    assert [(r.id, r.phase, r.restarts) for r in after] == [(r.id, Phase.READY, 0) for r in before]
    after = await world.drive(wanted)
    assert [await who(replica) for replica in after] == runs


async def test_a_replica_that_dies_unwatched_is_started_again(world: World) -> None:
    wanted = world.workload()
    (before,) = await world.drive(wanted)
    await world.again()
    await tell(before, "/crash")
    (after,) = await world.drive(wanted, first(lambda r: r.restarts == 1 and r.phase is Phase.READY))
    assert after.id == before.id


async def test_watching_names_what_changes(world: World) -> None:
    watch = world.platform.watch()
    wanted = world.workload()
    await world.platform.apply(wanted)
    async with asyncio.timeout(15):
        async for uid in watch:
            assert uid == wanted.uid
            if ready(await world.platform.observe(uid)):
                break
        await world.platform.delete(wanted.uid)
        async for uid in watch:
            if uid not in await world.platform.deployments():
                break


async def test_the_environment_of_a_replica(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_SECRET_KEY", "the root of all secrets")
    monkeypatch.setenv("MOORAGE_DATABASE_URL", "postgresql://moorage:password@localhost/moorage")
    monkeypatch.setenv("PGPASSWORD", "password")
    made = replace(
        world.template("--port", "$(MOORAGE_PORT)", "$$(HOME)", "$(NOBODY)", THREADS="1", MOORAGE_PORT="1"),
        model=Model("fraud", 3),
        stage="test",
    )
    made = replace(made, image=made.image or "registry/image:1")
    wanted = world.workload(template=made)
    (replica,) = await world.drive(wanted)
    env = json.loads(await ask(replica, "/env"))
    assert {name: value for name, value in env.items() if name.startswith("KUBEFLOW_")} == {
        "KUBEFLOW_ENV": "test",
        "KUBEFLOW_MODEL_NAME": "fraud",
        "KUBEFLOW_MODEL_VERSION": "3",
        "KUBEFLOW_MODEL_IMAGES": made.image,
        "KUBEFLOW_AREA": env["MOORAGE_AREA"],
    }
    assert (env["K8S_POD_NAME"], env["K8S_POD_NAMESPACE"]) == (replica.id, world.namespace("risk"))
    assert {"K8S_NODE_NAME", "K8S_POD_IP", "K8S_HOST_IP"} <= set(env)
    for name, value in env.items():
        if name.startswith(("KUBEFLOW_", "K8S_")):
            assert env["MOORAGE_" + name.split("_", 1)[1]] == value
    assert (env["THREADS"], env["OMP_NUM_THREADS"]) == ("1", "1")
    assert not {"MOORAGE_SECRET_KEY", "MOORAGE_DATABASE_URL", "PGPASSWORD"} & set(env)
    assert "secrets" not in json.dumps(env)
    said = await lines(world.platform.logs(wanted.uid, replica.id))
    assert said == [f"serving --port {env['MOORAGE_PORT']} $(HOME) $(NOBODY)"]
    assert env["MOORAGE_PORT"] != "1"
