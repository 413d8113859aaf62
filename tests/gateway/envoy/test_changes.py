"""Changes under load: nobody notices them, and what is said to be enforced is."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.publisher import Enforced, Pending, Rejected
from services.gateway.envoy.resources import SCOPE, Bundle, Resource
from services.gateway.envoy.translate import translate
from tests.gateway.envoy.harness import BEARER, ControlPlane, Envoy, Load, Stub, call, routes, stubs, until


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(tmp_path / "snapshot.db", patience=1) as plane:
        yield plane


async def test_a_storm_of_changes_fails_nobody(plane: ControlPlane, tmp_path: Path) -> None:
    """Weights, versions and replicas that come and go, access: whatever changes, each call is answered."""
    async with stubs("one", "two", "three") as (one, two, three):
        await plane.start(routes({1: one}, {1: 100}))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            async with Load(envoy) as load:
                await load.more(100)
                states = [
                    routes({1: one, 2: two}, {1: 90, 2: 10}),
                    routes({1: one, 2: two}, {2: 100}),
                    routes({2: two}, {2: 100}),
                    routes({2: [two, three]}, {2: 100}),
                    routes({2: three}, {2: 100}, access="public"),
                    routes({3: one, 2: three}, {3: 50, 2: 50}),
                    routes({1: one}, {1: 100}),
                ]
                for turn in range(8):
                    for state in states:
                        outcome = await plane.publish(state)
                        assert outcome == Enforced(state), turn
                await load.more(100)
            load.assert_none_failed()
            assert len(load.names) == 3


async def test_what_is_enforced_no_later_request_sees_otherwise(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        both = {1: one, 2: two}
        await plane.start(routes(both, {1: 100}))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            async with Load(envoy, callers=2):
                for turn in range(40):
                    version = turn % 2 + 1
                    await plane.publish(routes(both, {version: 100}))
                    assert (await call(envoy, "/deployment/churn/x", headers=BEARER)).body["name"] == both[version].name


async def test_stop_start_and_delete(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one") as (one,):
        await plane.start(routes({1: one}, {1: 100}))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            await plane.publish(routes({1: one}, {1: 100}, stopped=True))
            answer = await call(envoy, "/deployment/churn/x", headers=BEARER)
            assert (answer.status, answer.body["code"]) == (503, "deployment_stopped")
            await plane.publish(routes({1: one}, {1: 100}))
            assert (await call(envoy, "/deployment/churn/x", headers=BEARER)).status == 200
            assert await plane.publisher.publish({"churn": None}) == {"churn": Enforced(None)}
            assert (await call(envoy, "/deployment/churn/x", headers=BEARER)).status == 401
            assert "churn/1" not in await envoy.config_dump()
            assert "churn" not in plane.snapshot.versions


async def test_a_dead_replica_is_not_noticed(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one") as (one,):
        dead = Stub("dead")
        async with dead:
            pass
        await plane.start(routes({1: [one, dead]}, {1: 100}))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            async with Load(envoy) as load:
                await load.more(200)
            load.assert_none_failed()


def invalid(deployment: DeploymentRoutes) -> Bundle:
    """Its bundle, with a scope that Envoy refuses."""
    good = translate(deployment)
    broken = Resource.of(SCOPE, deployment.id, good.resources[SCOPE, deployment.id].body + b"\xff\xff")
    return Bundle.of([*good.resources.values(), broken])


async def test_a_refused_deployment_keeps_its_last_good_state_and_holds_up_nobody(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stubs("one", "two") as (one, two):
        both = {1: one, 2: two}
        names = ("churn", "other", "third")
        await plane.start(*(routes(both, {1: 100}, deployment=name) for name in names))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            changed = {name: routes(both, {2: 100}, deployment=name, generation=2) for name in names}
            fresh = routes(both, {1: 100}, deployment="fresh")
            with monkeypatch.context() as patch:  # at once: the first state is not even recorded
                patch.setattr(
                    "services.gateway.envoy.publisher.translate",
                    lambda each: invalid(each) if each.id in ("other", "fresh") else translate(each),
                )
                outcomes = await plane.publisher.publish({**changed, "fresh": fresh})
            assert outcomes["churn"] == Enforced(changed["churn"])
            assert outcomes["third"] == Enforced(changed["third"])
            assert isinstance(outcomes["other"], Rejected)
            assert isinstance(outcomes["fresh"], Rejected)
            serves = {}
            for name in (*names, "fresh"):
                answer = await call(envoy, f"/deployment/{name}/x", headers=BEARER)
                serves[name] = answer.body.get("name", answer.status)
            assert serves == {"churn": "two", "other": "one", "third": "two", "fresh": 401}
            assert set(plane.snapshot.versions) == {"@platform", *names}
            # Put right, it goes its way.
            assert await plane.publish(changed["other"]) == Enforced(changed["other"])
            assert (await call(envoy, "/deployment/other/x", headers=BEARER)).body["name"] == "two"


async def test_without_an_envoy_it_is_pending_and_told_later(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one") as (one,):
        await plane.start()
        published = routes({1: one}, {1: 100})
        assert await plane.publish(published) == Pending("no Envoy is connected")
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            assert (await call(envoy, "/deployment/churn/x", headers=BEARER)).status == 200
            await until(lambda: ("churn", Enforced(published)) in plane.outcomes)
        assert "churn" in plane.snapshot.versions


async def test_every_envoy_has_to_acknowledge(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        both = {1: one, 2: two}
        await plane.start(routes(both, {1: 100}))
        with (
            Envoy(tmp_path, xds=plane.port, name="first") as first,
            Envoy(tmp_path, xds=plane.port, name="second") as second,
        ):
            await first.ready()
            await second.ready()
            assert plane.store.connected == 2
            for version in (2, 1) * 5:
                assert isinstance(await plane.publish(routes(both, {version: 100})), Enforced)
                for envoy in (first, second):
                    answer = await call(envoy, "/deployment/churn/x", headers=BEARER)
                    assert answer.body["name"] == both[version].name

            second.signal(signal.SIGSTOP)
            held_up = routes(both, {2: 100}, generation=2)
            assert isinstance(await plane.publish(held_up, within=0.3), Pending)
            # It does not answer, so it is cut off and counts no more; and comes back to the newest state.
            await until(lambda: ("churn", Enforced(held_up)) in plane.outcomes)
            assert plane.store.connected == 1
            assert isinstance(await plane.publish(routes(both, {1: 50, 2: 50})), Enforced)
            assert isinstance(await plane.publish(held_up), Enforced)
            second.signal(signal.SIGCONT)
            await until(lambda: plane.store.connected == 2, what="the second is back")

            async def follows() -> bool:
                return (await call(second, "/deployment/churn/x", headers=BEARER)).body["name"] == "two"

            await until(follows, what="the second follows")


async def test_many_changes_at_once_go_out_together(plane: ControlPlane, tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        both = {1: one, 2: two}
        names = [f"d{number}" for number in range(200)]
        await plane.start(*(routes(both, {1: 100}, deployment=name) for name in names))
        with Envoy(tmp_path, xds=plane.port) as envoy:
            await envoy.ready()
            changed = [routes(both, {2: 100}, deployment=name) for name in names]
            outcomes = await asyncio.gather(*(plane.publish(each) for each in changed))
            assert outcomes == [Enforced(each) for each in changed]
            assert (await call(envoy, "/deployment/d199/x", headers=BEARER)).body["name"] == "two"
