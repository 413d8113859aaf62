"""What a version may not ask for: what cannot be, what the platform cannot run, and what is others'."""

import asyncio
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from services.deployer.deployments.container import split_files
from services.deployer.platforms import Capabilities, Nfs
from shared.schema import InstanceType
from tests.deployer.conftest import Deployer
from tests.deployer.test_containers import (
    CONTAINER,
    IMAGE,
    LABELLED,
    MODEL,
    NOTHING,
    PULL,
    VOLUMES,
    container,
    made,
    refused,
    told,
    whole,
)

NAS = {"server": "nas.example.com", "path": "/serving/model/mnist"}
CANNOT: list[tuple[str, Any, str]] = [
    ("image", "risk/UPPER", "/image"),
    ("image", "no spaces", "/image"),
    ("image", "a@sha256:short", "/image"),
    ("image_pull_secret", {**PULL, "password": {"secret": True}}, "/image_pull_secret/password/secret"),
    ("image_pull_secret", {**PULL, "password": "open"}, "/image_pull_secret/password"),
    ("config_files", {"../../etc/passwd": ""}, "/config_files/..~1..~1etc~1passwd"),
    ("config_files", {"..": ""}, "/config_files/.."),
    ("config_files", {"a": "\x1b"}, "/config_files/a"),
    ("config_files", {"a": "é" * 300_000}, "/config_files"),
    ("config_files", "no name\n---a\n", "/config_files"),
    ("config_files", "---a\n1\n---a\n2", "/config_files"),
    ("config_files", "---a/b\n", "/config_files"),
    ("volumes", [MODEL], "/volumes/0"),
    ("volumes", [{**LABELLED, "memory": {}}], "/volumes/0"),
    ("volumes", [{**MODEL, "pvc": {"claim": "a", "storage": 1}}], "/volumes/0/pvc"),
    ("volumes", [{**MODEL, "pvc": {"match_labels": {"a": "b"}}}], "/volumes/0/pvc"),
    ("volumes", [{**MODEL, "pvc": {}}], "/volumes/0/pvc"),
    ("volumes", [{**MODEL, "pvc": {"claim": "moorage-churn-v1-0a1b2c3d-nas-0123456789"}}], "/volumes/0/pvc"),
    ("volumes", [{**MODEL, "pvc": {"storage": 1, "match_labels": {"moorage.io/uid": "1"}}}], "/volumes/0/pvc"),
    ("volumes", [LABELLED, {**LABELLED, "mount_path": "/b"}], "/volumes"),
    ("volumes", [LABELLED, {**LABELLED, "name": "b"}], "/volumes"),
    ("volumes", [{**LABELLED, "name": "moorage-model"}], "/volumes/0"),
    ("volumes", [{**MODEL, "memory": {"size": "2Gi"}}], "/volumes"),
    ("volumes", [{**MODEL, "nfs": {**NAS, "path": "/a/../b"}}], "/volumes/0/nfs/path"),
    ("service", {"port": 0}, "/service/port"),
    ("service", {"type": "NodePort"}, "/service/type"),
    ("service", {"external_ips": ["127.0.0.1"]}, "/service/external_ips/0"),
    ("service", {"external_ips": ["here"]}, "/service/external_ips/0"),
    ("service", {"external_ips": ["203.0.113.7"]}, "/service/external_ips/0"),
    *(
        ("volumes", [{**MODEL, "mount_path": path, "pvc": {"claim": "a"}}], pointer)
        for path, pointer in {
            **dict.fromkeys(("/", "relative", "/a//b", "/a/", "/a/../dev", "/a:b"), "/volumes/0/mount_path"),
            **dict.fromkeys(("/config", "/config/x", "/tmp", "/models/m", "/dev", "/dev/shm"), "/volumes/0"),
        }.items()
    ),
]


async def test_what_cannot_be(deployer: Deployer) -> None:
    wrong = []
    for field, value, pointer in CANNOT:
        version = {"model": "risk/churn/1", "image": IMAGE, field: value}
        body = {"access": "public", "versions": [version]}
        found = await refused(deployer, "/deployments", body, "POST")
        if found != (422, "validation_failed", f"/versions/0{pointer}"):
            wrong.append((field, value, found))
    assert wrong == []


def test_config_files_in_one_text() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    text = f"---a.yaml\nx: 1\n---\ny: 2\n\n---.env \r\n{pem}---empty\n---last"
    assert split_files(text) == {"a.yaml": "x: 1\n---\ny: 2\n\n", ".env": pem, "empty": "", "last": ""}
    assert split_files("") == {}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"image": IMAGE}, "/image"),
        ({"config_files": {"a": "1"}}, "/config_files"),
        ({"volumes": [LABELLED]}, "/volumes"),
        ({"service": {}}, "/service"),
    ],
)
async def test_what_the_platform_cannot_run(deployer: Deployer, body: dict[str, Any], pointer: str) -> None:
    await made(deployer)
    deployer.platform.capabilities = Capabilities()
    assert await refused(deployer, "/deployments/churn/versions/1", body) == (422, "unsupported_by_platform", pointer)
    nested = {"group": "risk", **whole(**body)}
    assert await refused(deployer, "/deployments/new?dry_run=true", nested, "PUT") == (
        422,
        "unsupported_by_platform",
        f"/versions/0{pointer}",
    )
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": "1"}})


async def test_a_fraction_of_a_gpu_where_there_are_whole_ones_alone(deployer: Deployer) -> None:
    async with deployer.core.sessions.begin() as session:
        session.add(InstanceType(id="gpu", name="gpu", cpu=1, memory=2**30, gpu=0.5, gpu_model="T4"))
        session.add(InstanceType(id="gpus", name="gpus", cpu=1, memory=2**30, gpu=2))
    await made(deployer)
    deployer.platform.capabilities = Capabilities(containers=True, gpu_fractions=False)
    half = await refused(deployer, "/deployments/churn/versions/1", {"instance_type": "gpu"})
    assert half == (422, "unsupported_by_platform", "/instance_type")
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"instance_type": "gpus"})


async def test_what_was_made_for_another_platform_is_failed_with_what_to_do(deployer: Deployer) -> None:
    await made(deployer, **CONTAINER)
    deployer.platform.capabilities = Capabilities()
    await deployer.ok("POST", "/deployments/churn/redeploy")
    document = await deployer.until_phase("Failed")
    progress = next(each for each in document["status"]["conditions"] if each["type"] == "Progressing")
    assert progress["reason"] == "UnsupportedByPlatform"
    cleared = dict.fromkeys(NOTHING)
    await deployer.ok("PATCH", "/deployments/churn/versions/1", cleared)
    await deployer.until_phase("Deployed")


async def test_an_address_past_the_gateway_is_a_public_ones(deployer: Deployer) -> None:
    version = {"model": "risk/churn/1", "service": {}}
    private = {"id": "churn", "versions": [version]}
    assert (await refused(deployer, "/deployments", private, "POST"))[::2] == (422, "/versions/0/service")
    await made(deployer)
    await deployer.ok("PATCH", "/deployments/churn", {"access": "private"})
    path = "/deployments/churn/versions"
    assert (await refused(deployer, path, version, "POST"))[::2] == (422, "/service")
    assert (await refused(deployer, f"{path}/1", {"service": {}}))[::2] == (422, "/service")
    assert (await refused(deployer, "/deployments/churn", {"versions": [version]}))[::2] == (422, "/versions/0/service")
    await deployer.ok("PATCH", "/deployments/churn", {"access": "public", "versions": [version]})
    assert (await refused(deployer, "/deployments/churn", {"access": "private"}))[::2] == (422, "/access")
    await deployer.ok("PATCH", f"{path}/1", {"service": None})
    await deployer.ok("PATCH", "/deployments/churn", {"access": "private"})


@pytest.fixture
def setting(deployer: Deployer) -> Callable[..., None]:
    def change(**values: Any) -> None:
        deployer.app.state.settings = deployer.app.state.settings.model_copy(update=values)

    return change


async def test_nfs_is_for_admins_and_where_it_is_listed(deployer: Deployer, setting: Callable[..., None]) -> None:
    admin = await deployer.people.add("root", admin=True)
    volume = {**MODEL, "nfs": NAS}
    body = {"group": "risk", **whole(volumes=[volume])}
    assert (await refused(deployer, "/deployments/churn", body, "PUT"))[:2] == (403, "permission_denied")
    await deployer.ok("PUT", "/deployments/churn", body, by=admin)
    assert (await told(deployer)).template.volumes[0].source == Nfs(**NAS, storage=2**30)
    # What stands is kept by whoever may edit; more of it, or it again, is asked for anew.
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": "1"}})
    await deployer.ok("PATCH", "/deployments/churn", {"versions": [{"model": "risk/churn/2", "volumes": [volume]}]})
    writable = [{**volume, "read_only": False}]
    assert (await refused(deployer, "/deployments/churn/versions/1", {"volumes": writable}))[0] == 403
    again = {"model": "risk/churn/1", "volumes": [volume]}
    assert (await refused(deployer, "/deployments/churn/versions", again, "POST"))[0] == 403
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"volumes": None})
    assert (await refused(deployer, "/deployments/churn/rollback", {"revision": 1}, "POST"))[0] == 403
    for listed, status in {
        "other.example.com": 403,
        "nas.example.com:/serving/mod": 403,
        "nas.example.com:/serving/model": 200,
        "nas.example.com": 200,
    }.items():
        setting(kubernetes_nfs_servers=(listed,))
        answer = await deployer.call("PATCH", "/deployments/churn/versions/1?dry_run=true", {"volumes": [volume]})
        assert answer.status_code == status, listed


async def test_a_claim_is_the_groups_where_groups_have_namespaces(
    deployer: Deployer, setting: Callable[..., None]
) -> None:
    await made(deployer, volumes=VOLUMES)
    setting(kubernetes_namespace="models")
    await made(deployer, volumes=VOLUMES, env={"A": "1"})
    more = {"volumes": [{"name": "theirs", "mount_path": "/theirs", "pvc": {"claim": "theirs"}}]}
    assert (await refused(deployer, "/deployments/churn/versions/1", more))[:2] == (403, "permission_denied")
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"volumes": [LABELLED]})


async def test_external_ips_are_those_set_and_nobody_elses(deployer: Deployer, setting: Callable[..., None]) -> None:
    setting(kubernetes_external_ips=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/64")))
    service = {"type": "ClusterIP", "port": 80, "external_ips": ["203.0.113.7", "2001:DB8::0007"]}
    document = await made(deployer, service=service)
    assert container(document)["service"]["external_ips"] == ["203.0.113.7", "2001:db8::7"]
    path = "/deployments/churn/versions/1"
    assert (await made(deployer, service=service))["revision"] == 1
    outside = {"service": {"external_ips": ["203.0.114.7"]}}
    assert (await refused(deployer, path, outside))[::2] == (422, "/service/external_ips/0")
    twice = {"model": "risk/churn/1", "service": service}
    assert (await refused(deployer, "/deployments/churn/versions", twice, "POST"))[::2] == (422, "/service")
    other = {"group": "risk", **whole(service={"external_ips": ["203.0.113.7"]})}
    assert (await refused(deployer, "/deployments/other", other, "PUT"))[:2] == (409, "address_taken")
    setting(kubernetes_external_ips=())
    await deployer.ok("PATCH", path, {"service": {"port": 8080}})
    await deployer.ok("PATCH", path, {"service": {"external_ips": []}})
    assert (await refused(deployer, path, {"service": service}))[0] == 422


async def test_of_many_who_want_an_address_one_gets_it(deployer: Deployer, setting: Callable[..., None]) -> None:
    setting(kubernetes_external_ips=(ip_network("203.0.113.0/24"),))
    body = {"group": "risk", **whole(service={"external_ips": ["203.0.113.7"]})}
    answers = await asyncio.gather(*(deployer.call("PUT", f"/deployments/d-{n}", body) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7], json.dumps(answers[0].json())
