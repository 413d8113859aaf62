"""From a version's spec to what the platform is told: a `Template` and a `Workload`. Pure."""

from urllib.parse import unquote, urlsplit
from uuid import UUID

from services.deployer.deployments.domain import Spec, VersionSpec
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Model, Probe, Resources, Template, Workload
from services.deployer.runtimes.catalogue import RUNTIMES

__all__ = ["workloads"]


def workloads(
    *,
    uid: UUID,
    deployment: str,
    group: str,
    spec: Spec,
    stopped: bool,
    keep: frozenset[str],
    serving: frozenset[str],
    vault: EnvVault,
) -> list[Workload]:
    """What each live version should look like. Only what a replica is made of enters its template."""
    return [
        Workload(
            uid=uid,
            id=deployment,
            group=group,
            version=version["number"],
            template=_template(uid, version, stage=spec["stage"], vault=vault),
            replicas=0 if stopped else version["replicas"]["min"],
            keep=keep,
            serving=serving,
        )
        for version in spec["versions"]
    ]


def _template(uid: UUID, version: VersionSpec, *, stage: str, vault: EnvVault) -> Template:
    runtime, size = RUNTIMES[version["runtime"]], version["resources"]
    _, name, number = version["model"].split("/")
    salt = vault.nonce(version["env"], about=f"{uid} {version['number']}")
    return Template(
        runtime=runtime.id,
        command=runtime.command,
        args=runtime.args,
        env={**runtime.env, **vault.open_all(version["env"]), **_local_path(version)},
        stage=stage,
        model=Model(name=name, version=int(number), digest=version["digest"], size=version["size"]),
        resources=Resources(cpu=size["cpu"], memory=size["memory"], gpu=size["gpu"], gpu_model=size["gpu_model"]),
        probe=Probe(path=runtime.health_path, start_seconds=runtime.start_seconds),
        nonce=f"{version['restart'] or ''}{salt}",
        grace_seconds=runtime.grace_seconds,
    )


def _local_path(version: VersionSpec) -> dict[str, str]:
    """A `file://` artifact is read where it lies: the platform pulls nothing and so knows no path."""
    address = urlsplit(version["artifact"]) if isinstance(version["artifact"], str) else None
    if version["digest"] is not None or address is None or address.scheme != "file":
        return {}
    path = unquote(address.path)
    return {"MOORAGE_MODEL_PATH": path, "KUBEFLOW_MODEL_PATH": path}
