"""Our calls, as a real API server takes them."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from kubernetes_asyncio.config import incluster_config

from services.deployer.platforms.kubernetes import kinds, names, objects, trimming
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import Conflict, Forbidden, Invalid, NamespaceNotFound, NotFound
from tests.deployer.platforms.kubernetes import samples
from tests.deployer.platforms.kubernetes.samples import Manifest
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]


def read(plane: ControlPlane, manifest: Manifest) -> Manifest | None:
    metadata = manifest["metadata"]
    path = kinds.kind_of(manifest).path(metadata.get("namespace"), metadata["name"])
    found: Manifest | None = plane.admin.call("GET", path)
    return found


async def test_applied_twice_is_applied_once(api: Api, namespace: str) -> None:
    manifest = samples.config_map(uuid4(), namespace=namespace, a="b")
    first, second = await api.apply(manifest), await api.apply(manifest)
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert trimming.fingerprint(first) == trimming.fingerprint(second)


async def test_the_fields_of_others_are_left_alone(api: Api, control_plane: ControlPlane, namespace: str) -> None:
    manifest = samples.deployment(uuid4(), namespace=namespace, replicas=None)
    path = kinds.DEPLOYMENT.path(namespace, manifest["metadata"]["name"])
    await api.apply(manifest)
    theirs = {"metadata": {"annotations": {"other/thing": "1"}}, "spec": {"replicas": 3}}
    control_plane.admin.call("PATCH", path, theirs)
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "changed"
    found = await api.apply(manifest)
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["annotations"]["other/thing"] == "1"
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "changed"


async def test_what_others_do_to_our_fields_is_seen_and_undone(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    manifest = samples.deployment(uuid4(), namespace=namespace)
    wanted = trimming.fingerprint(await api.apply(manifest))
    path = kinds.DEPLOYMENT.path(namespace, manifest["metadata"]["name"])
    drifted = control_plane.admin.call(
        "PATCH", path, {"spec": {"template": {"spec": {"priority": 0, "hostname": "x"}}}}
    )
    assert trimming.fingerprint(drifted) != wanted
    containers = [{"name": "replica", "image": "theirs"}]
    drifted = control_plane.admin.call("PATCH", path, {"spec": {"template": {"spec": {"containers": containers}}}})
    found = await api.apply(manifest)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "none"
    # Another's field stays another's: applied once more, it is no drift any more.
    assert trimming.fingerprint(await api.apply(manifest)) == trimming.fingerprint(found)


async def test_without_force_another_managers_field_is_a_conflict(api: Api, namespace: str) -> None:
    uid = uuid4()
    await api.apply(samples.deployment(uid, namespace=namespace, replicas=2))
    with pytest.raises(Conflict, match="replicas"):
        await api.apply(samples.deployment(uid, namespace=namespace, replicas=3), manager="other", force=False)


async def test_a_missing_namespace_is_told_from_anything_else_missing(api: Api, control_plane: ControlPlane) -> None:
    name = f"late-{uuid4().hex[:8]}"
    manifest = samples.config_map(uuid4(), namespace=name)
    with pytest.raises(NamespaceNotFound, match=name):
        await api.apply(manifest)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await api.create(namespace)
    await api.create(namespace)
    await api.apply(manifest)
    assert read(control_plane, manifest)
    await api.delete(kinds.NAMESPACE, None, name)
    with pytest.raises(NotFound) as caught:
        await api.merge(kinds.CONFIG_MAP, "default", "absent", {"data": {"a": "b"}})
    assert not isinstance(caught.value, NamespaceNotFound)


async def test_the_servers_words_reach_us(api: Api, control_plane: ControlPlane, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/small"
    control_plane.admin.apply(path, quota | {"spec": {"hard": {"count/configmaps": "1"}}})
    await until(lambda: control_plane.admin.call("GET", path)["status"].get("hard"))

    async def refused() -> bool:
        try:
            await api.apply(samples.config_map(uuid4(), namespace=namespace))
        except Forbidden as error:
            return "exceeded quota: small" in str(error)
        return False

    await until(refused)
    wrong = samples.deployment(uuid4(), namespace=namespace)
    wrong["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    with pytest.raises(Invalid, match="image: Required value"):
        await api.apply(wrong)


async def test_without_rights_nothing_is_to_be_had(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.admin.kubeconfig_for(f"{namespace}/default")
    async with Api(Connection(kubeconfig=kubeconfig)) as api:
        with pytest.raises(Forbidden, match="cannot patch resource"):
            await api.apply(samples.config_map(uuid4(), namespace=namespace))
        assert await api.usage(selector=names.OURS) is None


async def test_a_pods_own_parts(api: Api, control_plane: ControlPlane, namespace: str) -> None:
    uid = uuid4()
    manifest = samples.pod(uid, "x", namespace=namespace, scheduler="default-scheduler")
    await api.create(manifest)
    name = manifest["metadata"]["name"]

    def pod() -> objects.Pod:
        found = trimming.trim_pod(read(control_plane, manifest) or {})
        assert found is not None
        return found

    await until(lambda: pod().condition("PodScheduled"))
    await api.set_condition(namespace, name, names.IN_SERVICE, status=True, reason="Routed")
    assert pod().holds(names.IN_SERVICE)
    await api.set_condition(namespace, name, names.IN_SERVICE, status=False, reason="Released")
    assert not pod().holds(names.IN_SERVICE)
    assert pod().condition("PodScheduled")

    await api.merge(kinds.POD, namespace, name, {"metadata": {"annotations": {names.DRAINING: "now"}}})
    assert pod().annotations == {names.DRAINING: "now"}
    await api.merge(kinds.POD, namespace, name, {"metadata": {"annotations": {names.DRAINING: None}}})
    assert pod().annotations == {}
    assert [line async for line in api.logs(namespace, name, "replica")] == []
    with pytest.raises(NotFound):
        await anext(api.logs(namespace, "absent", "replica"))
    with pytest.raises(NotFound):
        await api.set_condition(namespace, "absent", names.IN_SERVICE, status=True, reason="Routed")


async def test_absent_is_deleted_and_a_namesake_is_not(api: Api, control_plane: ControlPlane, namespace: str) -> None:
    uid, other = uuid4(), uuid4()
    manifest = samples.config_map(uid, namespace=namespace)
    name = manifest["metadata"]["name"]
    await api.delete(kinds.CONFIG_MAP, namespace, name)
    found = await api.apply(manifest)
    await api.delete(kinds.CONFIG_MAP, namespace, name, uid=str(uuid4()))
    assert read(control_plane, manifest)
    await api.delete(kinds.CONFIG_MAP, namespace, name, uid=found["metadata"]["uid"], propagation="Foreground")
    await until(lambda: read(control_plane, manifest) is None)

    await api.apply(manifest)
    await api.apply(samples.config_map(other, namespace=namespace))
    for _ in range(2):
        await api.delete_collection(kinds.CONFIG_MAP, namespace, selector=names.selector(uid))
    assert read(control_plane, manifest) is None
    assert read(control_plane, samples.config_map(other, namespace=namespace))


async def test_a_list_is_of_all_namespaces_in_pages(api: Api, namespace: str) -> None:
    uid = uuid4()
    for name in ("a", "b", "c"):
        manifest = samples.config_map(uid, namespace=namespace)
        manifest["metadata"]["name"] = name
        await api.apply(manifest)
    pages = [page async for page in api.pages(kinds.CONFIG_MAP, selector=names.selector(uid), limit=2)]
    assert [[item["metadata"]["name"] for item in page.items] for page in pages] == [["a", "b"], ["c"]]


async def test_in_a_pod_its_own_service_account_is_used(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = tmp_path / "token"
    token.write_text(control_plane.admin.call("POST", path, request)["status"]["token"])
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(control_plane.authority))
    host, port = control_plane.url("127.0.0.1").removeprefix("https://").split(":")
    monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_PORT", port)
    async with Api(Connection()) as api:
        with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:default"):
            await api.apply(samples.config_map(uuid4(), namespace=namespace))
