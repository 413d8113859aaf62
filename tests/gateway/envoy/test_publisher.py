"""From what is published to what is said of it, with Envoys whose answers the test chooses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.publisher import Enforced, Outcome, Pending, Publisher
from services.gateway.envoy.resources import CLUSTER, SCOPE, Bundle
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store
from tests.gateway.envoy.fake import FakeEnvoy
from tests.support.waiting import until


class Plane:
    """A publisher, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.store = Store()
        self.snapshot = SnapshotFile(folder / "snapshot.db")
        self.told: list[tuple[str, Outcome]] = []
        self.publisher = Publisher(self.store, self.snapshot, notify=lambda *outcome: self.told.append(outcome))

    def envoy(self) -> FakeEnvoy:
        """One that has connected and asked for everything."""
        envoy = FakeEnvoy(self.store)
        envoy.ask(CLUSTER, SCOPE)
        return envoy

    async def publish(self, *routes: DeploymentRoutes, within: float = 0.0) -> list[Outcome]:
        outcomes = await self.publisher.publish({each.id: each for each in routes}, within=within)
        return [outcomes[each.id] for each in routes]


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
    publishing = asyncio.create_task(plane.publish(routes(), within=5))
    await asyncio.sleep(0)
    envoy.converge()
    assert await publishing == [Enforced(routes())]
    assert "churn" in plane.snapshot.versions


async def test_who_has_stopped_waiting_is_not_kept(plane: Plane) -> None:
    for generation in range(1, 20):
        assert await plane.publish(routes(generation=generation)) == [Pending("no Envoy is connected")]
    assert len(plane.publisher._open["churn"].waiters) <= 1
    envoy = plane.envoy()
    envoy.converge()
    await until(lambda: plane.told == [("churn", Enforced(routes(generation=19)))])
