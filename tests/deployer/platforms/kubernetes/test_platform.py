"""What only the Kubernetes platform must withstand, on fake nodes: other hands on its objects, refusals, a second one
of its kind, and failures that a real node does not make on command."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from services.deployer.platforms import (
    Cause,
    ExistingClaim,
    Exposure,
    Model,
    Nfs,
    Phase,
    PlatformError,
    Resources,
    Template,
    Volume,
    Workload,
)
from services.deployer.platforms.kubernetes import names
from tests.deployer.platforms.conftest import lived_in
from tests.deployer.platforms.kubernetes.deployer import Deployer
from tests.deployer.platforms.kubernetes.world import KubernetesWorld
from tests.deployer.platforms.world import first
from tests.servers import chart
from tests.servers.faults import Faults, status
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]

IMAGE = "registry.example/replica:1"


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane, fake_nodes: Kwok) -> Path:
    chart.install(control_plane.admin)
    return control_plane.admin.kubeconfig_for(chart.SERVICE_ACCOUNT)


@pytest.fixture
async def world(control_plane: ControlPlane, kubeconfig: Path) -> AsyncIterator[KubernetesWorld]:
    made = KubernetesWorld(control_plane, kubeconfig, image=IMAGE, patience_seconds=1.0)
    async with lived_in(made):
        yield made


@pytest.fixture
async def deployer(world: KubernetesWorld) -> AsyncIterator[Deployer]:
    async with Deployer(world.platform).running() as made:
        yield made


def everything(world: KubernetesWorld, uid: UUID) -> dict[str, Any]:
    """All objects of a deployment by kind and name, as the cluster has them."""
    kinds = "deployments,services,configmaps,secrets,horizontalpodautoscalers,persistentvolumeclaims,persistentvolumes"
    text = world.plane.admin.kubectl("get", kinds, "-A", "-l", f"moorage.io/uid={uid}", "-o", "json")
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in json.loads(text)["items"]}


async def versions(world: KubernetesWorld, uid: UUID) -> dict[str, str]:
    """Of all its objects, once the cluster's controllers have nothing more to write."""
    found: dict[str, Any] = {}

    def at_rest() -> bool:
        nonlocal found
        found = everything(world, uid)
        roots = [each for each in found.values() if each["kind"] == "Deployment"]
        return all(each["status"].get("availableReplicas") == each["spec"]["replicas"] for each in roots)

    await until(at_rest)
    return {name: each["metadata"]["resourceVersion"] for name, each in found.items()}


RICH = 6


def rich(world: KubernetesWorld) -> Workload:
    """One of each kind of object that a workload can have."""
    template = replace(
        world.template(),
        secrets={"TOKEN": "hidden"},
        files={"labels.txt": "a\nb"},
        volumes=(Volume("data", "/data", Nfs("nfs.example", "/exports", 1 << 30)),),
    )
    return world.workload(2, template=template, exposure=Exposure(type="ClusterIP"))


def path(world: KubernetesWorld, kind: str, name: str) -> str:
    api = {
        "deployments": "apis/apps/v1",
        "horizontalpodautoscalers": "apis/autoscaling/v2",
    }.get(kind, "api/v1")
    return f"/{api}/namespaces/{world.namespace('risk')}/{kind}/{name}"


async def test_a_birth_costs_a_call_for_each_object_and_replica(control_plane: ControlPlane, kubeconfig: Path) -> None:
    asked: list[str] = []

    def note(request: web.BaseRequest) -> None:
        if request.method != "GET":
            asked.append(f"{request.method} {request.path.rsplit('/', 2)[-2]}")

    async with Faults(control_plane) as proxy:
        proxy.refuse = note
        world = KubernetesWorld(control_plane, proxy.kubeconfig_for(chart.SERVICE_ACCOUNT), image=IMAGE)
        async with lived_in(world), Deployer(world.platform).running() as deployer:
            await deployer.want(world.workload())  # makes the namespace
            (warm,) = deployer.wanted
            await deployer.serves(deployer.wanted[warm])
            await versions(world, warm)
            asked.clear()
            deployer.woken = 0
            template = replace(world.template(), model=Model("fraud", 3, "sha256:" + "0" * 64))
            wanted = world.workload(3, template=template)
            await deployer.want(wanted)
            await deployer.serves(wanted)
            await versions(world, wanted.uid)  # once all of them are in service
            assert asked[:2] == ["PATCH deployments", "PATCH secrets"]
            assert len(asked) == 2 + 3, asked
            assert deployer.woken <= 2 * 3 + 1, "once when it is there, once when it is ready"

            asked.clear()
            changed = replace(wanted, template=replace(template, env={**template.env, "GREETING": "hello"}))
            await deployer.want(changed)
            await deployer.serves(changed)
            assert [each for each in asked if "pods" not in each][:1] == ["PATCH deployments"]
            assert "PATCH secrets" not in asked, "its content is the same"


async def test_applying_again_changes_no_object(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    before = await versions(world, wanted.uid)
    assert {name.split("/")[0] for name in before} == {
        "Deployment", "Service", "ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim",
    }  # fmt: skip
    await deployer.reconcile(wanted.uid)
    await world.again()
    async with Deployer(world.platform, told=deployer.told, routed=deployer.routed).running() as another:
        await another.want(wanted)
        await another.want(wanted)
    assert await versions(world, wanted.uid) == before


async def test_what_others_delete_or_change_comes_back(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    admin, name = world.plane.admin, names.root(wanted)
    before = everything(world, wanted.uid)
    assert len(before) == RICH
    admin.call("DELETE", path(world, "services", name))
    admin.call("DELETE", path(world, "configmaps", names.files(wanted)))
    image = {"spec": {"template": {"spec": {"containers": [{"name": "replica", "image": "evil:1"}]}}}}
    admin.kubectl("patch", "deployment", name, "-n", world.namespace("risk"), "--patch", json.dumps(image))

    def is_back() -> bool:
        now = everything(world, wanted.uid)
        root = now[f"Deployment/{name}"]
        return now.keys() == before.keys() and root["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE

    await until(is_back, within=20)
    admin.kubectl("scale", "deployment", name, "-n", world.namespace("risk"), "--replicas=5")
    await until(lambda: everything(world, wanted.uid)[f"Deployment/{name}"]["spec"]["replicas"] == 2, within=20)
    await deployer.serves(wanted)


async def test_a_deployment_that_was_deleted_is_made_again(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    old = {r.id for r in await deployer.serves(wanted)}
    root = path(world, "deployments", names.root(wanted))
    world.plane.admin.call("DELETE", root)

    def is_new() -> bool:
        found = everything(world, wanted.uid)
        return len(found) == RICH and not any(each["metadata"].get("deletionTimestamp") for each in found.values())

    await until(lambda: not old & deployer.told[wanted.uid], within=20)
    assert not old & {r.id for r in await deployer.serves(wanted, within=60)}
    await until(is_new, within=20)


async def test_a_claim_that_is_deleted_finds_its_volume_again(world: KubernetesWorld, deployer: Deployer) -> None:
    """The volume was bound to that claim, and takes none of the same name."""
    wanted = rich(world)
    await deployer.want(wanted)
    old = {r.id for r in await deployer.serves(wanted)}
    room = world.namespace("risk")
    world.plane.admin.kubectl("delete", "persistentvolumeclaims", "--all", "-n", room, "--wait=false")
    world.plane.admin.kubectl("delete", "pods", "--all", "-n", room)  # it goes when nobody uses it any more
    await until(lambda: not old & deployer.told[wanted.uid], within=20)
    await deployer.serves(wanted, within=60)
    bound = {each["status"]["phase"] for each in everything(world, wanted.uid).values() if "Volume" in each["kind"]}
    assert bound == {"Bound"}


async def test_an_autoscalers_replicas_are_left_alone(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = world.workload(2, most=5)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    admin, name = world.plane.admin, names.root(wanted)
    scale = {"spec": {"replicas": 4}}
    admin.call("PATCH", path(world, "deployments", name) + "/scale", scale, fieldManager="horizontal-pod-autoscaler")
    await deployer.serves(replace(wanted, replicas=4))
    changed = replace(wanted, template=world.template(GREETING="hello"))
    await deployer.want(changed)
    await deployer.serves(replace(changed, replicas=4))
    await world.again()
    async with Deployer(world.platform, told=deployer.told, routed=deployer.routed).running() as another:
        await another.want(changed)
        assert everything(world, wanted.uid)[f"Deployment/{name}"]["spec"]["replicas"] == 4
        fixed = replace(changed, most=0)
        await another.want(fixed)
        await another.serves(fixed)
    assert f"HorizontalPodAutoscaler/{name}" not in everything(world, wanted.uid)


async def test_a_stop_keeps_what_a_start_needs(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    before = everything(world, wanted.uid).keys()
    empty = Template(runtime="test", command=(), volumes=wanted.template.volumes)
    await deployer.want(replace(wanted, template=empty, replicas=0))
    await deployer.until(wanted.uid, lambda found: not found)
    assert everything(world, wanted.uid).keys() == before
    await deployer.want(wanted)
    await deployer.serves(wanted)


async def test_a_service_has_an_address(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    host = f"{names.root(wanted)}.{world.namespace('risk')}.svc"
    assert await world.platform.addresses(wanted.uid) == {1: (f"{host}:80",)}


async def test_what_a_template_needed_goes_with_its_last_pod(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    changed = replace(wanted, template=replace(wanted.template, secrets={"TOKEN": "other"}, files={}), exposure=None)

    def left() -> set[str]:
        kinds = ("Secret", "ConfigMap", "Service")
        return {name for name in everything(world, wanted.uid) if name.startswith(kinds)}

    before = left()
    await deployer.want(changed)
    await deployer.serves(changed)
    await until(lambda: len(left()) == 1, within=10)
    assert left().pop().startswith("Secret/")
    assert not left() & before


async def test_a_failure_on_the_way_is_made_up_for(control_plane: ControlPlane, kubeconfig: Path) -> None:
    async with Faults(control_plane) as proxy:
        world = KubernetesWorld(control_plane, proxy.kubeconfig_for(chart.SERVICE_ACCOUNT), image=IMAGE)
        async with lived_in(world):
            proxy.refuse = lambda request: status(404, "lost") if "/secrets/" in request.path else None
            wanted = rich(world)
            with pytest.raises(PlatformError):
                await world.platform.apply(wanted)
            proxy.refuse = lambda request: None
            async with Deployer(world.platform).running() as deployer:
                await deployer.want(wanted)
                await deployer.serves(wanted)
            assert len(everything(world, wanted.uid)) == RICH
            proxy.lose = lambda request: request.method == "PATCH"  # what was asked is done, and nobody hears of it
            async with asyncio.timeout(30):
                changing = asyncio.create_task(world.platform.apply(replace(wanted, exposure=None)))
                await asyncio.sleep(0.5)
                proxy.lose = lambda request: False
                await changing
            assert f"Service/{names.root(wanted)}" not in everything(world, wanted.uid)


async def test_orphans_are_found_and_removed(world: KubernetesWorld, deployer: Deployer) -> None:
    wanted = rich(world)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    deployer.wanted.clear()
    await world.again()
    assert await world.platform.deployments() == {wanted.uid}
    world.plane.admin.kubectl(
        "delete", "deployment", names.root(wanted), "-n", world.namespace("risk"), "--cascade=orphan"
    )
    await until(lambda: f"Deployment/{names.root(wanted)}" not in everything(world, wanted.uid))
    assert await world.platform.deployments() == {wanted.uid}
    world.plane.admin.kubectl("delete", "replicasets", "--all", "-n", world.namespace("risk"), "--cascade=orphan")

    async def is_gone() -> bool:
        await world.platform.delete(wanted.uid)  # as the deployer does, each time it is woken
        return not await world.platform.deployments()

    await until(is_gone, within=20)
    assert world.leftovers(wanted.uid) == []


async def test_two_deployers_do_not_fight(world: KubernetesWorld, deployer: Deployer) -> None:
    second = world.another()
    await second.start()
    await second.known()
    try:
        twin = Deployer(second, wanted=deployer.wanted, told=deployer.told, routed=deployer.routed)
        async with twin.running():
            wanted = replace(rich(world), replicas=4)
            await deployer.want(wanted)
            await deployer.serves(wanted)
            for nonce in "ab":
                wanted = replace(wanted, template=replace(wanted.template, nonce=nonce))
                await asyncio.gather(deployer.want(wanted), twin.want(wanted))
                await deployer.serves(wanted)
            await until(lambda: len(everything(world, wanted.uid)) == RICH, within=10)
            before = await versions(world, wanted.uid)
            await asyncio.gather(*(each.reconcile(wanted.uid) for each in (deployer, twin, deployer, twin)))
            assert await versions(world, wanted.uid) == before
    finally:
        await second.close()


async def test_a_rollout_takes_no_pod_that_was_not_released(world: KubernetesWorld, deployer: Deployer) -> None:
    """On the real controllers, with changes that come faster than rollouts, and a data plane that lags."""
    deployer.lag = 0.2
    routed_when_deleted: list[str] = []
    seen: set[str] = set()

    def look() -> None:
        found = world.plane.admin.call("GET", f"/api/v1/namespaces/{world.namespace('risk')}/pods")
        for pod in found["items"] if found else ():
            name, deleted = pod["metadata"]["name"], pod["metadata"].get("deletionTimestamp")
            if not deleted or name in seen:
                continue
            seen.add(name)
            gates = {each["type"]: each for each in pod["status"].get("conditions", ())}
            if gates.get(names.IN_SERVICE, {}).get("status") == "True":
                routed_when_deleted.append(name)

    async def watched() -> None:
        while True:
            await asyncio.to_thread(look)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watched())
    wanted = world.workload(4)
    await deployer.want(wanted)
    await deployer.serves(wanted)
    for step, (replicas, fate) in enumerate(
        [(4, "ready"), (6, "ready"), (2, "never-ready"), (3, "ready"), (1, "ready")]
    ):
        wanted = replace(wanted, replicas=replicas, template=world.template(nonce=str(step), FATE=fate))
        await deployer.want(wanted)
        await asyncio.sleep(0.7)
    await deployer.serves(wanted, within=60)
    watching.cancel()
    assert routed_when_deleted == []


@pytest.mark.parametrize(
    ("options", "cause", "said"),
    [
        ({"FATE": "missing-image"}, Cause.IMAGE_PULL, "not found"),
        ({"FATE": "oom", "memory": 64 << 20}, Cause.OUT_OF_MEMORY, "64 MiB"),
        ({"FATE": "crash"}, Cause.CRASH, "exit code 1"),
        ({"cpu": 1000.0}, Cause.UNSCHEDULABLE, "Insufficient cpu"),
    ],
)
async def test_causes(
    world: KubernetesWorld, deployer: Deployer, options: dict[str, Any], cause: Cause, said: str
) -> None:
    wanted = world.workload(template=world.template(**options))
    await deployer.want(wanted)
    (replica,) = await deployer.until(wanted.uid, first(lambda r: r.phase is Phase.FAILED))
    assert replica.failure is not None
    assert (replica.failure.cause, replica.failure.advice != "") == (cause, True)
    assert said in replica.failure.message


async def test_a_model_that_cannot_be_fetched(world: KubernetesWorld, deployer: Deployer) -> None:
    template = replace(world.template(FATE="failed-pull"), model=Model("fraud", 3, "sha256:" + "0" * 64))
    wanted = world.workload(template=template)
    await deployer.want(wanted)
    (replica,) = await deployer.until(wanted.uid, first(lambda r: r.phase is Phase.FAILED))
    assert replica.failure is not None
    assert replica.failure.cause is Cause.MODEL_DOWNLOAD


async def test_a_claim_that_is_missing(world: KubernetesWorld, deployer: Deployer) -> None:
    template = replace(world.template(), volumes=(Volume("data", "/data", ExistingClaim("theirs")),))
    wanted = world.workload(template=template)
    await deployer.want(wanted)
    (replica,) = await deployer.until(wanted.uid, first(lambda r: r.phase is Phase.FAILED))
    assert replica.failure is not None
    assert (replica.failure.cause, '"theirs" is not there' in replica.failure.message) == (Cause.CONFIGURATION, True)


async def test_a_quota_in_the_clusters_words(world: KubernetesWorld, deployer: Deployer) -> None:
    small = world.workload()
    await deployer.want(small)
    await deployer.serves(small)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "cpu"},
        "spec": {"hard": {"limits.cpu": "1"}},
    }
    world.plane.admin.apply(path(world, "resourcequotas", "cpu"), quota)
    large = world.workload(2, template=replace(world.template(), resources=Resources(cpu=0.6, memory=1 << 20)))
    await deployer.want(large)

    def over_quota(found: list[Any]) -> bool:
        return any(r.failure is not None and r.failure.cause is Cause.QUOTA for r in found)

    found = await deployer.until(large.uid, over_quota)
    shown = next(r for r in found if r.failure is not None)
    assert (shown.id, shown.phase) == (names.root(large), Phase.FAILED)
    assert "exceeded quota: cpu" in shown.failure.message


async def test_what_the_cluster_will_not_take_is_said(world: KubernetesWorld, deployer: Deployer) -> None:
    wrong = world.workload(template=replace(world.template(), node_selector={"disk": "not a label!"}))
    await deployer.want(wrong)
    (shown,) = await world.platform.observe(wrong.uid)
    assert shown.failure is not None
    assert (shown.phase, shown.failure.cause) == (Phase.FAILED, Cause.CONFIGURATION)
    right = replace(wrong, template=world.template())
    await deployer.want(right)
    await deployer.serves(right)
