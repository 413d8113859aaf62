"""The Helm chart: what it grants is all that the deployer needs on a real API server, and nothing more."""

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import yaml

from services.deployer.platforms.kubernetes import Options, names
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import Forbidden, Invalid
from services.deployer.platforms.kubernetes.kinds import POD, SECRET, VOLUME, Kind, Object, kind_of
from services.deployer.platforms.kubernetes.manifests import build, field_manager, namespace
from tests.deployer.platforms.kubernetes.cases import CASES, MODEL_URL, OPTIONS
from tests.servers import chart
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]


RESTRICTED = {"spec": {"automountServiceAccountToken": False}}


def objects(**deployer: Any) -> list[Object]:
    return [each for each in yaml.safe_load_all(chart.render(**deployer)) if each]


def granted(found: list[Object], kind: str) -> dict[str, set[str]]:
    """The verbs by resource."""
    (role,) = [each for each in found if each["kind"] == kind]
    return {
        "/".join(filter(None, (group, resource))): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_chart_is_well_formed() -> None:
    chart.lint()


@pytest.mark.parametrize("place", ["moorage-{group}", "serving"])
def test_secrets_are_never_read_and_nothing_is_granted_at_large(place: str) -> None:
    found = objects(namespace=place)
    rules = granted(found, "ClusterRole") | (granted(found, "Role") if place == "serving" else {})
    assert rules["secrets"] == {"create", "patch", "delete", "deletecollection"}
    assert rules["deployments" if "deployments" in rules else "apps/deployments"]
    assert not any("*" in resource or "*" in verbs for resource, verbs in rules.items())


def test_one_namespace_that_is_given_is_where_its_power_ends() -> None:
    found = objects(namespace="serving")
    assert set(granted(found, "ClusterRole")) == {"persistentvolumes"}
    (role,) = [each for each in found if each["kind"] == "Role"]
    assert role["metadata"]["namespace"] == "serving"
    assert "namespaces" not in granted(found, "Role")


@pytest.mark.parametrize("values", [{"namespace": "Upper"}, {"namespace": "a-{team}"}, {"unknown": 1}])
def test_a_value_that_makes_no_sense_is_refused(values: Mapping[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="values don't meet the specifications"):
        chart.render(**values)


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> ControlPlane:
    chart.install(control_plane.admin)
    return control_plane


@pytest.fixture
async def api(installed: ControlPlane) -> AsyncIterator[Api]:
    """As the deployer."""
    async with Api(Connection(kubeconfig=installed.admin.kubeconfig_for(chart.SERVICE_ACCOUNT))) as api:
        yield api


@pytest.fixture
def options() -> Options:
    """A namespace of each test's own."""
    return replace(OPTIONS, namespace=f"{uuid4().hex[:8]}-{{group}}")


async def test_the_deployer_reads_no_secret_and_touches_nothing_of_others(
    installed: ControlPlane, api: Api, options: Options
) -> None:
    admin, room = installed.admin, options.namespace_of("risk")
    admin.kubectl("create", "namespace", room)
    admin.kubectl("create", "secret", "generic", "theirs", "-n", room)
    ours = build(CASES["registry-model"], options, model_url=MODEL_URL, replicas=1).root
    theirs: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "theirs", "namespace": room, "labels": {names.MANAGED_BY: names.MANAGER}},
    }
    unlabelled = {**theirs, "metadata": {"name": "plain", "namespace": room}}

    await until(lambda: refused(api.apply(ours), "in its own namespaces only"))
    admin.kubectl("label", "namespace", room, f"{names.MANAGED_BY}={names.MANAGER}")
    await until(lambda: accepted(api.apply(ours)))
    assert await refused(api.delete(SECRET, room, "theirs"), "what is not its own")
    assert await refused(api.apply(theirs), "what is not its own")
    assert await refused(api.apply(unlabelled), "has the label")
    assert await refused(read(api, SECRET), "cannot list resource")

    admin.kubectl("run", "theirs", "-n", room, "--image=somebody/elses", "--overrides", json.dumps(RESTRICTED))
    assert await refused(api.delete(POD, room, "theirs"), "what is not its own")
    gate = api.set_condition(room, "theirs", names.IN_SERVICE, status=True, reason="Acknowledged")
    assert await refused(gate, "has the label")

    # Its own it may put right, even when somebody has taken the label away: but not the namespace's too.
    admin.kubectl("label", "deployment", ours["metadata"]["name"], "-n", room, f"{names.MANAGED_BY}-")
    await api.apply(ours)
    admin.kubectl("label", "deployment", ours["metadata"]["name"], "-n", room, f"{names.MANAGED_BY}-")
    admin.kubectl("label", "namespace", room, f"{names.MANAGED_BY}-")
    await until(lambda: refused(api.apply(ours), "in its own namespaces only"))
    assert await refused(api.delete(kind_of(ours), room, ours["metadata"]["name"]), "in its own namespaces only")


async def test_a_namespace_that_admits_every_pod_is_not_the_deployers_to_make(api: Api, options: Options) -> None:
    lax = namespace(options, "lax")
    lax["metadata"]["labels"].pop(names.POD_SECURITY)
    await until(lambda: refused(api.create(lax), "restricted Pod Security Standard"))


async def test_the_deployer_can_do_its_work(installed: ControlPlane, api: Api, options: Options) -> None:
    """After those above, so that the guard is awake."""
    for workload in (replace(each, uid=uuid4()) for each in CASES.values()):
        await api.create(namespace(options, workload.group))
        made = build(workload, options, model_url=MODEL_URL, replicas=workload.replicas)
        root = await api.apply(made.root)
        for each in made.dependents(root["metadata"]["uid"]):
            await api.apply(each, manager=field_manager(each))
        await api.apply(made.root)

        selector, room = names.selector(workload.uid), options.namespace_of(workload.group)
        await until(lambda of=(room, selector), wanted=workload.replicas: len(pods(installed, *of)) >= wanted)
        for pod in pods(installed, room, selector):
            name = pod["metadata"]["name"]
            await api.merge(POD, room, name, {"metadata": {"annotations": {names.DRAINING: "now"}}})
            await api.set_condition(room, name, names.IN_SERVICE, status=True, reason="Acknowledged")
            await api.delete(POD, room, name)
        await api.delete_collection(SECRET, room, selector=names.selector(workload.uid, but={"0000000000"}))
        await api.delete(kind_of(made.root), room, names.root(workload), propagation="Foreground")
        for volume in made.volumes:
            await api.delete(VOLUME, None, volume["metadata"]["name"])


def pods(plane: ControlPlane, room: str, selector: str) -> list[Any]:
    return list(plane.admin.call("GET", POD.path(room), labelSelector=selector)["items"])


async def read(api: Api, kind: Kind) -> None:
    async for _ in api.pages(kind):
        pass


async def refused(call: Awaitable[object], because: str) -> bool:
    try:
        await call
    except (Forbidden, Invalid) as error:
        return because in str(error)
    return False


async def accepted(call: Awaitable[object]) -> bool:
    return not await refused(call, "")
