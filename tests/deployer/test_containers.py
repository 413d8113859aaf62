"""What a version says about its container: taken, shown, kept, merged, and told to the platform."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update

from services.deployer.platforms import (
    ExistingClaim,
    Exposure,
    LabelledClaim,
    Memory,
    Phase,
    PullSecret,
    Toleration,
    Volume,
    Workload,
)
from shared.schema import Deployment, InstanceType
from tests.deployer.conftest import Deployer

IMAGE = "registry.example.com:5000/risk/serving:1.4"
SECRET = "swordfish-swordfish"
PULL = {"server": "registry.example.com:5000", "username": "ana", "password": {"secret": SECRET}}
MODEL = {"name": "model", "mount_path": "/serving/model/mnist", "read_only": True}
LABELLED = {**MODEL, "pvc": {"storage": "5Gi", "match_labels": {"model": "mnist"}}}
VOLUMES = [
    LABELLED,
    {"name": "shared", "mount_path": "/data", "pvc": {"claim": "shared-models"}},
    {"name": "scratch", "mount_path": "/dev/shm", "memory": {"size": "64Mi"}},
]
CONTAINER = {
    "image": IMAGE,
    "image_pull_secret": PULL,
    "config_files": {"batching.yaml": "max: 8\n", "models.config": "{}"},
    "volumes": VOLUMES,
    "service": {"port": 9090},
}
SHOWN = {
    "image": IMAGE,
    "image_pull_secret": {**PULL, "password": {"secret": True}},
    "config_files": CONTAINER["config_files"],
    "volumes": [
        {**MODEL, "pvc": {"storage": 5 * 2**30, "match_labels": {"model": "mnist"}}},
        {**VOLUMES[1], "read_only": False},
        {**VOLUMES[2], "read_only": False, "memory": {"size": 64 * 2**20}},
    ],
    "service": {"type": "LoadBalancer", "port": 9090, "external_ips": []},
}
NOTHING = {"image": None, "image_pull_secret": None, "config_files": {}, "volumes": [], "service": None}


def whole(**fields: Any) -> dict[str, Any]:
    return {"access": "public", "name": "churn", "versions": [{"model": "risk/churn/1", **fields}]}


async def made(deployer: Deployer, **fields: Any) -> dict[str, Any]:
    body = {"group": "risk", **whole(**fields)}
    document: dict[str, Any] = await deployer.ok("PUT", "/deployments/churn?wait=settled&timeout=10", body)
    return document


def container(document: dict[str, Any]) -> dict[str, Any]:
    (version,) = document["versions"]
    return {name: version[name] for name in NOTHING}


async def told(deployer: Deployer) -> Workload:
    """What the platform was told of the one replica that is up."""
    await deployer.until_phase("Deployed")
    (replica,) = deployer.platform.all(phase=Phase.READY)
    return replica.workload


async def refused(deployer: Deployer, path: str, body: Any, method: str = "PATCH", **more: Any) -> tuple[int, str, str]:
    """Status, code, and the first bad field."""
    answer = await deployer.call(method, path, body, **more)
    problem = answer.json()
    return answer.status_code, problem.get("code"), problem.get("errors", [{"pointer": ""}])[0]["pointer"]


async def test_all_of_it_reaches_the_platform(deployer: Deployer) -> None:
    document = await made(deployer, **CONTAINER, replicas={"min": 1, "max": 3})
    assert container(document) == SHOWN
    workload = await told(deployer)
    template = workload.template
    assert (template.image, template.runtime, template.command[0]) == (IMAGE, "inference", "python")
    assert template.pull_secret == PullSecret("registry.example.com:5000", "ana", SECRET)
    assert template.files == CONTAINER["config_files"]
    assert template.volumes == (
        Volume("model", "/serving/model/mnist", LabelledClaim(5 * 2**30, {"model": "mnist"}), read_only=True),
        Volume("shared", "/data", ExistingClaim("shared-models")),
        Volume("scratch", "/dev/shm", Memory(64 * 2**20)),
    )
    assert workload.exposure == Exposure("LoadBalancer", 9090)
    assert (workload.replicas, workload.most) == (1, 3)


async def test_the_same_again_changes_nothing_and_without_it_it_is_cleared(deployer: Deployer) -> None:
    await made(deployer, **CONTAINER)
    for password in ({"secret": SECRET}, {"secret": True}):
        again = await made(deployer, **{**CONTAINER, "image_pull_secret": {**PULL, "password": password}})
        assert (again["generation"], again["revision"]) == (1, 1)
    again = await deployer.ok("PATCH", "/deployments/churn", {"versions": [{"model": "risk/churn/1", **SHOWN}]})
    assert again["revision"] == 1, "what was read can be sent back"
    assert container(await made(deployer)) == NOTHING
    assert (await told(deployer)).template.volumes == ()


async def test_a_version_of_before_is_what_it_was(deployer: Deployer) -> None:
    """A row without the new keys is the same as one that asks for nothing new."""
    document = await deployer.deploy(env={"KEY": {"secret": "x"}})
    async with deployer.core.reading() as session:
        stored = (await session.execute(select(Deployment.spec))).scalar_one()
    assert not set(stored["versions"][0]) & set(NOTHING)
    assert container(document) == NOTHING
    assert container({"versions": [(await deployer.ok("GET", "/deployments/churn/versions/1"))]}) == NOTHING
    revision = await deployer.ok("GET", "/deployments/churn/revisions/1")
    assert container(revision["spec"]) == NOTHING


async def test_a_patch_merges_and_null_clears(deployer: Deployer) -> None:
    await made(deployer, **CONTAINER)

    async def patched(**fields: Any) -> dict[str, Any]:
        document = await deployer.ok("PATCH", "/deployments/churn/versions/1", fields)
        return {name: value for name, value in container(document).items() if name in fields}

    assert await patched(config_files={"models.config": None, "b": "2"}) == {
        "config_files": {"batching.yaml": "max: 8\n", "b": "2"}
    }
    assert await patched(config_files="---a\n1\n---b\n2") == {"config_files": {"a": "1\n", "b": "2"}}
    assert await patched(service={"type": "ClusterIP"}) == {
        "service": {"type": "ClusterIP", "port": 9090, "external_ips": []}
    }
    assert await patched(service={"port": None}) == {"service": {"type": "ClusterIP", "port": 80, "external_ips": []}}
    assert await patched(image_pull_secret={"username": "bob"}) == {
        "image_pull_secret": {**SHOWN["image_pull_secret"], "username": "bob"}
    }
    assert await patched(volumes=[LABELLED]) == {"volumes": SHOWN["volumes"][:1]}
    assert (await told(deployer)).template.pull_secret == PullSecret("registry.example.com:5000", "bob", SECRET)
    path = "/deployments/churn/versions/1"
    assert await refused(deployer, path, {"image": None}) == (422, "validation_failed", "")
    cleared = dict.fromkeys(NOTHING)
    assert await patched(**cleared) == NOTHING
    assert (await deployer.ok("PATCH", path, cleared))["revision"] == 8, "and nothing is left to clear"
    many = {f"V{number}": "1" for number in range(60)}
    await deployer.ok("PATCH", path, {"env": many})
    more = {f"W{number}": "1" for number in range(60)}
    assert await refused(deployer, path, {"env": more}) == (422, "validation_failed", "/env"), "each is fine, not both"


async def test_a_password_is_masked_and_stands_for_its_server_alone(
    deployer: Deployer, capsys: pytest.CaptureFixture[str]
) -> None:
    await made(deployer, **CONTAINER)
    moved = {"image_pull_secret": {"server": "evil.example.com"}}
    assert await refused(deployer, "/deployments/churn/versions/1", moved) == (
        422,
        "validation_failed",
        "/image_pull_secret/password/secret",
    )
    changed = {"image_pull_secret": {"password": {"secret": f"{SECRET}-2"}}}
    await deployer.ok("PATCH", "/deployments/churn/versions/1", changed)
    revision = await deployer.ok("GET", "/deployments/churn/revisions/2")
    assert revision["diff"] == [
        {"path": "/versions/1/image_pull_secret/password", "before": {"secret": True}, "after": {"secret": True}}
    ]
    await deployer.ok("POST", "/deployments/churn/rollback", {"revision": 1})
    assert (await told(deployer)).template.pull_secret == PullSecret("registry.example.com:5000", "ana", SECRET)
    paths = ("", "/versions", "/versions/1", "/revisions", "/revisions/1", "/log", "/replicas")
    shown = [(await deployer.call("GET", f"/deployments/churn{path}")).text for path in paths]
    shown.append((await deployer.call("PUT", "/deployments/churn?dry_run=true", whole(**CONTAINER, env={}))).text)
    bad = {**PULL, "password": SECRET}
    shown.append((await deployer.call("PATCH", "/deployments/churn/versions/1", {"image_pull_secret": bad})).text)
    async with deployer.core.reading() as session:
        for table in ("deployments", "revisions", "replicas", "deployment_steps", "outbox", "bus_messages"):
            rows = await session.execute(text(f"SELECT coalesce(jsonb_agg(t)::text, '') FROM {table} t"))
            shown.append(str(rows.scalar_one()))
    shown += [capsys.readouterr().out, repr(await told(deployer))]
    assert not any(SECRET in each for each in shown)
    assert not any("sealed" in each for each in shown[: len(paths)])


async def test_the_history_tells_volumes_by_name_and_files_by_name(deployer: Deployer) -> None:
    await made(deployer, **CONTAINER)
    later = [{**LABELLED, "read_only": False}, *VOLUMES[1:]]
    changes = {"volumes": later, "config_files": {"batching.yaml": "max: 9\n"}, "image": "risk/serving:2"}
    await deployer.ok("PATCH", "/deployments/churn/versions/1", changes)
    revision = await deployer.ok("GET", "/deployments/churn/revisions/2")
    assert {change["path"]: (change["before"], change["after"]) for change in revision["diff"]} == {
        "/versions/1/volumes/model/read_only": (True, False),
        "/versions/1/config_files/batching.yaml": ("max: 8\n", "max: 9\n"),
        "/versions/1/image": (IMAGE, "risk/serving:2"),
    }
    assert revision["spec"]["versions"][0]["volumes"][1:] == SHOWN["volumes"][1:]
    document = await deployer.ok("POST", "/deployments/churn/rollback", {"revision": 1})
    assert container(document) == SHOWN


async def test_a_variable_that_becomes_secret_gets_a_fresh_replica(deployer: Deployer) -> None:
    """Its value is the same, and so is the template's digest but for that: it lies elsewhere in a cluster."""
    await deployer.deploy(env={"KEY": {"secret": "a"}, "OTHER": "b"})
    before = (await told(deployer)).template
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"OTHER": {"secret": "b"}}})
    await deployer.until(lambda document: document["status"]["observed_generation"] == 2)
    after = (await told(deployer)).template
    assert (after.env, after.secrets) == ({}, {"KEY": "a", "OTHER": "b"})
    assert after.digest != before.digest
    await deployer.ok("POST", "/deployments/churn/rollback", {"revision": 1})
    await deployer.until(lambda document: document["status"]["observed_generation"] == 3)
    assert (await told(deployer)).template.digest not in (after.digest, before.digest)


async def test_a_stopped_deployment_keeps_its_storage_and_its_address(deployer: Deployer) -> None:
    await made(deployer, **CONTAINER)
    applied = []
    apply = deployer.platform.apply

    async def noted(workload: Workload) -> None:
        applied.append(workload)
        await apply(workload)

    deployer.platform.apply = noted
    await deployer.ok("POST", "/deployments/churn/stop?wait=settled&timeout=10")
    last = applied[-1]
    assert (last.replicas, last.most) == (0, 0)
    assert [volume.name for volume in last.template.volumes] == ["model", "shared", "scratch"]
    assert (last.exposure, last.template.image, last.template.pull_secret) == (Exposure("LoadBalancer", 9090), "", None)


async def test_nodes_are_those_of_the_instance_types_day(deployer: Deployer) -> None:
    tolerations = [{"key": "gpu", "operator": "Equal", "value": "t4", "effect": "NoExecute", "toleration_seconds": 60}]
    async with deployer.core.sessions.begin() as session:
        values = {"node_selector": {"pool": "fast"}, "tolerations": tolerations}
        await session.execute(update(InstanceType).where(InstanceType.id == "cpu-1").values(values))
    await deployer.deploy()
    template = (await told(deployer)).template
    assert template.node_selector == {"pool": "fast"}
    assert template.tolerations == (Toleration("gpu", "Equal", "t4", "NoExecute", 60),)
    async with deployer.core.sessions.begin() as session:
        await session.execute(update(InstanceType).values({"node_selector": {"pool": "slow"}}))
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": "1"}})
    await deployer.until(lambda document: document["status"]["observed_generation"] == 2)
    assert (await told(deployer)).template.node_selector == {"pool": "fast"}


async def test_more_than_the_least_is_fine(deployer: Deployer) -> None:
    """The platform scales by itself between min and max; what is ready and wanted stays true."""
    await made(deployer, replicas={"min": 1, "max": 4})
    apply = deployer.platform.apply

    async def scaled(workload: Workload) -> None:
        await apply(replace(workload, replicas=workload.most))

    deployer.platform.apply = scaled
    await deployer.ok("PATCH", "/deployments/churn", {"description": "busy"})
    document = await deployer.until(lambda document: document["status"]["versions"][0]["ready"] == 4)
    status = document["status"]
    assert (status["versions"][0]["wanted"], status["versions"][0]["phase"]) == (1, "Deployed")
    assert status["conditions"][0]["message"] == "4 replicas are ready."
    await deployer.until_phase("Deployed")
