"""From what is published to what is said of it, with Envoys whose answers the test chooses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.publisher import Enforced, Outcome, Pending, Publisher, Rejected
from services.gateway.envoy.resources import CLUSTER, SCOPE, Bundle
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Phase, Store
from services.gateway.envoy.translate import translate
from tests.gateway.envoy.fake import FakeEnvoy
from tests.support.waiting import until


class Plane:
    """A publisher, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.store = Store()
        self.snapshot = SnapshotFile(folder / "snapshot.db")
        self.told: list[tuple[str, Outcome]] = []
        self.publisher = Publisher(self.store, self.snapshot, notify=lambda *outcome: self.told.append(outcome))

    def envoy(self, name: str = "envoy") -> FakeEnvoy:
        """One that has connected and asked for everything."""
        envoy = FakeEnvoy(self.store, name=name)
        envoy.ask(CLUSTER, SCOPE)
        return envoy

    async def publish(self, *routes: DeploymentRoutes, within: float = 0.0) -> list[Outcome]:
        outcomes = await self.publisher.publish({each.id: each for each in routes}, within=within)
        return [outcomes[each.id] for each in routes]

    @asynccontextmanager
    async def publishing(self, routes: DeploymentRoutes) -> AsyncIterator["asyncio.Task[list[Outcome]]"]:
        """Published, and its answer still to come."""
        task = asyncio.create_task(self.publish(routes, within=5))
        await asyncio.sleep(0)
        yield task
        await task


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    made = Plane(tmp_path)
    yield made
    await made.publisher.close()
    made.snapshot.close()


def routes(deployment: str = "churn", *, generation: int = 1, stopped: bool = False) -> DeploymentRoutes:
    return DeploymentRoutes(id=deployment, generation=generation, versions={1: ()}, weights={1: 100}, stopped=stopped)


async def test_whatever_keeps_the_snapshot_from_being_written_it_is_tried_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.envoy.publisher._RETRY_SNAPSHOT_AFTER", 0.01)
    write, failures = plane.snapshot.write, [OSError("the disk is away"), RuntimeError("no thread to be had")]

    def fails_twice(changes: Mapping[str, Bundle | None]) -> None:
        if failures:
            raise failures.pop()
        write(changes)

    monkeypatch.setattr(plane.snapshot, "write", fails_twice)
    envoy = plane.envoy()
    async with plane.publishing(routes()) as answer:
        envoy.converge()
        assert await answer == [Enforced(routes())]
    assert "churn" in plane.snapshot.versions


async def test_who_has_stopped_waiting_is_not_kept(plane: Plane) -> None:
    for generation in range(1, 20):
        assert await plane.publish(routes(generation=generation)) == [Pending("no Envoy is connected")]
    assert len(plane.publisher._open["churn"].waiters) <= 1
    envoy = plane.envoy()
    envoy.converge()
    await until(lambda: plane.told == [("churn", Enforced(routes(generation=19)))])


async def test_an_envoy_that_refuses_what_was_good_holds_the_others_back_from_nothing(plane: Plane) -> None:
    """One of another release, say: the others go on, nothing is taken back, and the deployment says where to look."""
    plane.publisher.load([routes("churn"), routes("other")])
    good = plane.envoy("good")
    good.converge()
    await until(lambda: ("churn", Enforced(routes("churn"))) in plane.told)
    odd = plane.envoy("odd")
    odd.converge(refuse=["churn/1"])
    assert ("churn", Rejected("odd: bad: churn/1")) in plane.told  # though nobody had changed it
    assert plane.store.status("other").phase is Phase.ENFORCED

    changed = routes("churn", stopped=True, generation=2)
    async with plane.publishing(changed) as answer:
        assert good.converge() == ["S+churn S+churn/predict"]
        assert await answer == [Rejected("odd: bad: churn/1")]
    assert plane.store.get("churn") == translate(changed)
    assert plane.snapshot.read("churn") == translate(changed)
    odd.hang_up()
    assert plane.told[-1] == ("churn", Enforced(changed))


async def test_what_one_envoy_newly_refuses_is_taken_back_from_all(plane: Plane) -> None:
    plane.publisher.load([routes()])
    envoys = [plane.envoy("one"), plane.envoy("two")]
    for envoy in envoys:
        envoy.converge()
    await until(lambda: plane.told == [("churn", Enforced(routes()))])
    changed = routes(stopped=True)
    async with plane.publishing(changed) as answer:
        envoys[0].converge()
        envoys[1].converge(refuse=[translate(changed).resources[SCOPE, "churn"].version])
        assert await answer == [Rejected("two: bad: churn")]
    for envoy in envoys:
        envoy.converge()
    assert plane.store.status("churn").phase is Phase.ENFORCED
    assert plane.store.get("churn") == translate(routes())
    await until(lambda: plane.snapshot.read("churn") == translate(routes()))


async def test_an_envoy_that_is_missing_keeps_a_change_from_being_enforced(plane: Plane) -> None:
    """It goes on routing by what it had. The others follow at once, and a cold one would."""
    plane.publisher.load([routes()])
    here, lost = plane.envoy("here"), plane.envoy("lost")
    for envoy in (here, lost):
        envoy.converge()
    plane.store.expect({"here", "lost"})
    await until(lambda: plane.told == [("churn", Enforced(routes()))])

    lost.hang_up()
    changed = routes(stopped=True, generation=2)
    async with plane.publishing(changed) as answer:
        here.converge()
        (outcome,) = await answer
    assert outcome == Pending("out of reach, and perhaps still routing as before: lost")
    assert plane.snapshot.read("churn") == translate(changed)

    back = plane.envoy("lost")
    assert plane.told[1:] == []
    back.converge()
    await until(lambda: plane.told[1:] == [("churn", Enforced(changed))])

    back.hang_up()
    async with plane.publishing(routes(generation=3)) as answer:
        here.converge()
        assert isinstance((await answer)[0], Pending)
    plane.store.expect({"here"})  # it is given up
    assert plane.told[2:] == [("churn", Enforced(routes(generation=3)))]
