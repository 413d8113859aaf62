"""What a cluster does to pods by itself, and who else may be on it: on fake nodes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.deployer.platforms import Cause, LabelledClaim, Memory, Phase, Replica, Volume, Workload
from services.deployer.platforms.kubernetes import names
from tests.deployer.platforms.conftest import lived_in
from tests.deployer.platforms.kubernetes.world import KubernetesWorld
from tests.deployer.platforms.world import first, present, ready
from tests.servers import chart
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]

IMAGE = "registry.example/replica:1"


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, fake_nodes: Kwok) -> Path:
    chart.install(control_plane.admin)
    return control_plane.admin.kubeconfig_for(chart.SERVICE_ACCOUNT)


@pytest.fixture
async def world(control_plane: ControlPlane, kubeconfig: Path) -> AsyncIterator[KubernetesWorld]:
    made = KubernetesWorld(control_plane, kubeconfig, image=IMAGE)
    async with lived_in(made):
        yield made


def has_ended(pod: str, found: list[Replica]) -> bool:
    return any(r.id == pod and r.phase is Phase.ENDED for r in found)


async def is_calm(world: KubernetesWorld, wanted: Workload, pod: str) -> bool:
    """Its gate is open and kwok has taken note, which would otherwise write its status over ours."""
    await world.platform.apply(replace(wanted, keep=frozenset({pod}), serving=frozenset({pod})))
    conditions = world.plane.admin.call("GET", f"{pods(world)}/{pod}")["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def pods(world: KubernetesWorld) -> str:
    return f"/api/v1/namespaces/{world.namespace('risk')}/pods"


async def test_of_the_pods_that_nodes_throw_out_the_last_few_stay(world: KubernetesWorld) -> None:
    wanted = world.workload()
    for _ in range(5):
        found = await world.drive(wanted, lambda found: len(ready(found)) == 1)
        evicted = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: ephemeral-storage.",
        }
        pod = ready(found)[0].id
        await until(partial(is_calm, world, wanted, pod))
        path = f"{pods(world)}/{pod}"
        world.plane.admin.call("PATCH", f"{path}/status", {"status": evicted})
        await world.eventually(wanted.uid, partial(has_ended, pod))
    found = await world.drive(wanted, lambda found: len(found) == 4 and len(ready(found)) == 1)
    assert len(present(found)) == 1
    assert all(r.failure and "ephemeral-storage" in r.failure.message for r in found if r.phase is Phase.ENDED)


async def test_a_name_stands_for_one_thing_only(world: KubernetesWorld) -> None:
    """What the Deployment of before cannot have, and what the cluster refuses of the next one, are one replica."""
    wanted = world.workload()
    await world.drive(wanted)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "1"}}}
    path = f"/api/v1/namespaces/{world.namespace('risk')}/resourcequotas"
    world.plane.admin.call("POST", path, quota)

    def counted() -> Any:
        return world.plane.admin.call("GET", f"{path}/none").get("status", {}).get("hard")

    await until(counted)
    wanted = replace(wanted, replicas=2)
    await world.drive(wanted, lambda found: any(r.failure and r.failure.cause is Cause.QUOTA for r in found))
    twice = (Volume("a", "/a", Memory()), Volume("b", "/a", Memory()))
    wanted = replace(wanted, template=replace(wanted.template, volumes=twice))
    found = await world.drive(wanted, lambda found: any(r.failure and "duplicate" in r.failure.message for r in found))
    assert len({r.id for r in found}) == len(found)
    again = await world.drive(wanted, lambda found: True)
    assert [r.started_at for r in again] == [r.started_at for r in found]


async def test_another_installation_is_left_alone(
    world: KubernetesWorld, control_plane: ControlPlane, kubeconfig: Path
) -> None:
    wanted = world.workload()
    await world.drive(wanted)
    other = KubernetesWorld(control_plane, kubeconfig, image=IMAGE, installation="staging")
    async with lived_in(other):
        assert await other.platform.deployments() == set()
        await other.platform.delete(wanted.uid)
        await other.drive(other.workload(), first(lambda r: r.phase is Phase.READY))
        assert await world.platform.deployments() == {wanted.uid}
    assert len(ready(await world.platform.observe(wanted.uid))) == 1


async def test_a_shared_claim_that_somebody_deletes_comes_back(world: KubernetesWorld) -> None:
    claim = LabelledClaim(1 << 30, {"model": "mnist"})
    wanted = world.workload(template=replace(world.template(), volumes=(Volume("data", "/data", claim),)))
    path = f"/api/v1/namespaces/{world.namespace('risk')}/persistentvolumeclaims/{names.labelled_claim(claim)}"

    def uid() -> str | None:
        found = world.plane.admin.call("GET", path)
        return found and str(found["metadata"]["uid"])

    await world.drive(wanted, lambda found: bool(found) and uid() is not None)
    before = uid()
    world.plane.admin.call("DELETE", path)
    await world.drive(wanted, lambda found: uid() not in (None, before))
