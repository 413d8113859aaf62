"""A real API server takes the objects as they are, and its controllers do with them what they are made for."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from services.deployer.platforms import LabelledClaim, Nfs, Volume
from services.deployer.platforms.kubernetes import Options, names
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.kinds import POD, kind_of
from services.deployer.platforms.kubernetes.manifests import Manifest, Manifests, build, field_manager, namespace
from tests.deployer.platforms.kubernetes.cases import CASES, GIB, MODEL_URL, OPTIONS, REGISTRY_MODEL, ROOT_UID
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]


def stored(plane: ControlPlane, manifest: Manifest) -> Any:
    about = manifest["metadata"]
    return plane.admin.call("GET", kind_of(manifest).path(about.get("namespace"), about["name"]))


def pods(plane: ControlPlane, room: Manifest) -> list[Any]:
    return list(plane.admin.call("GET", POD.path(room["metadata"]["name"]))["items"])


def assert_kept(sent: Any, found: Any, *path: str | int) -> None:
    """All of `sent` is in `found` as it was sent; what the server has added is not looked at."""
    match sent:
        case dict():
            for name, value in sent.items():
                assert name in found, (*path, name)
                assert_kept(value, found[name], *path, name)
        case list():
            assert len(sent) == len(found), path
            for number, (one, other) in enumerate(zip(sent, found, strict=True)):
                assert_kept(one, other, *path, number)
        case _:
            assert sent == found, path


async def apply(api: Api, made: Manifests) -> list[Manifest]:
    """All of a version, as the platform does; what was sent."""
    root = await api.apply(made.root)
    dependents = made.dependents(root["metadata"]["uid"])
    for each in dependents:
        await api.apply(each, manager=field_manager(each))
    return [made.root, *dependents]


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    return control_plane


@pytest.mark.parametrize("name", CASES)
async def test_the_server_takes_every_kind_of_workload_as_it_is(plane: ControlPlane, api: Api, name: str) -> None:
    workload = CASES[name]
    options = replace(OPTIONS, namespace=f"{name}-{{group}}")
    room = namespace(options, workload.group)
    await api.apply(room)
    made = build(workload, options, model_url=MODEL_URL, replicas=None if workload.most else workload.replicas)

    # The API server itself is to say which fields it does not know.
    text = yaml.safe_dump_all([made.root, *made.dependents(ROOT_UID)])
    plane.admin.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)

    for each in [room, *await apply(api, made)]:
        assert_kept(each, stored(plane, each), each["kind"])
    before = stored(plane, made.root)["spec"]
    await apply(api, made)
    after = stored(plane, made.root)["spec"]
    assert after | {"replicas": 0} == before | {"replicas": 0}  # these may be the autoscaler's by now

    # Pods that are there were admitted, under the restricted standard.
    await until(lambda: pods(plane, room) or not workload.replicas)
    for pod in pods(plane, room):
        annotations = pod["metadata"]["annotations"]
        assert (annotations[names.TEMPLATE], annotations[names.REVISION]) == (workload.template.digest, made.revision)


async def test_a_pod_that_is_not_restricted_is_refused_where_ours_are(plane: ControlPlane, api: Api) -> None:
    room = namespace(OPTIONS, "strict")
    await api.apply(room)
    spec = {"containers": [{"name": "root", "image": "root"}]}
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        plane.admin.call(
            "POST", POD.path(room["metadata"]["name"]), {"metadata": {"name": "root"}, "spec": spec}, dryRun="All"
        )


async def test_with_the_root_goes_what_it_owns_and_a_shared_claim_with_its_last_owner(
    plane: ControlPlane, api: Api
) -> None:
    options = Options(model_server_image="moorage/modelserver:1.0", namespace="shared-{group}")
    labelled, folder = LabelledClaim(GIB, {"model": "mnist"}), Nfs("nas.example.com", "/serving", GIB)
    mounted = (Volume("mnist", "/mnist", labelled), Volume("nas", "/nas", folder))
    template = replace(CASES["secrets-and-files"].template, volumes=mounted)
    first = replace(REGISTRY_MODEL, template=template, replicas=0)
    second = replace(first, version=2)
    await api.apply(namespace(options, first.group))
    sent = [await apply(api, build(each, options, model_url=MODEL_URL, replicas=0)) for each in (first, second)]
    claims = {each["metadata"]["name"]: each for each in sent[0] if each["kind"] == "PersistentVolumeClaim"}
    shared = claims[names.labelled_claim(labelled)]
    owners = stored(plane, shared)["metadata"]["ownerReferences"]
    assert {each["name"] for each in owners} == {names.root(first), names.root(second)}
    await until(lambda: stored(plane, claims[names.nfs_volume(first, "nas", folder)])["status"]["phase"] == "Bound")

    await delete(plane, api, sent[0])
    assert left(plane, sent[0]) == {"PersistentVolume", "PersistentVolumeClaim"}
    assert left(plane, [shared])
    await delete(plane, api, sent[1])
    assert left(plane, sent[0]) == left(plane, sent[1]) == {"PersistentVolume"}


async def delete(plane: ControlPlane, api: Api, sent: list[Manifest]) -> None:
    about = sent[0]["metadata"]
    await api.delete(kind_of(sent[0]), about["namespace"], about["name"], propagation="Foreground")
    await until(lambda: not stored(plane, sent[0]))


def left(plane: ControlPlane, sent: list[Manifest]) -> set[str]:
    """The kinds of what is still there."""
    return {each["kind"] for each in sent if stored(plane, each)}
