"""What only a real kubelet shows: a server that is deaf, and an image that is root's."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.deployer.platforms import Cause, Phase, Replica
from services.deployer.platforms.kubernetes import verdict
from services.deployer.platforms.kubernetes.manifests import pod
from shared.process import processes
from tests.deployer.platforms.conftest import lived_in
from tests.deployer.platforms.kubernetes.world import KubernetesWorld
from tests.deployer.platforms.world import first, ready
from tests.servers import images
from tests.servers.kubernetes import ControlPlane
from tests.servers.node import Node

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("node")]


@pytest.fixture
async def world(real_cluster: tuple[ControlPlane, Path], request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    plane, kubeconfig = real_cluster
    made = KubernetesWorld(plane, kubeconfig, image=images.REPLICA.reference, **getattr(request, "param", {}))
    async with lived_in(made):
        yield made


def of(replica: Replica) -> int:
    """The process that serves, as this machine knows it."""
    (found,) = [pid for pid, _ in processes() if f"K8S_POD_NAME={replica.id}".encode() in environ(pid)]
    return found


def environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


async def test_a_deaf_replica_is_started_again(world: KubernetesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "DEAF_PERIOD", 1)
    monkeypatch.setattr(verdict, "DEAF", 1.0)
    wanted = world.workload()
    (before,) = await world.drive(wanted)
    os.kill(of(before), signal.SIGSTOP)
    causes = set()

    def is_well_again(found: list[Replica]) -> bool:
        causes.update(r.failure.cause for r in found if r.failure is not None)
        return any(r.restarts >= 1 for r in ready(found))

    (after,) = await world.drive(wanted, is_well_again)
    assert after.id == before.id
    # With periods this short the kubelet's times, whole seconds, do not always tell it from a crash.
    assert causes <= {Cause.PROBE, Cause.CRASH}


@pytest.mark.parametrize("world", [{"user": None}], indirect=True)
async def test_an_image_of_roots_is_refused(world: KubernetesWorld, real_node: Node) -> None:
    real_node.load(images.ROOT)
    wanted = world.workload(template=world.template(image=images.ROOT.reference))
    (replica,) = await world.drive(wanted, first(lambda r: r.phase is Phase.FAILED))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.CONFIGURATION
    assert "root" in replica.failure.message
    assert "USER" in replica.failure.advice


async def test_an_image_of_roots_runs_as_somebody_else(world: KubernetesWorld, real_node: Node) -> None:
    real_node.load(images.ROOT)
    wanted = world.workload(template=world.template(image=images.ROOT.reference))
    (replica,) = await world.drive(wanted, first(lambda r: bool(r.failure and r.failure.evidence.log)))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.CRASH
    assert any("uid=10001 gid=0" in line for line in replica.failure.evidence.log)
    assert "root" in replica.failure.advice
