"""From a version's spec to what the platform is told: a `Template` and a `Workload`. Pure."""

from urllib.parse import unquote, urlsplit
from uuid import UUID

from services.deployer.deployments.domain import Spec, VersionSpec
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Model, Probe, Resources, Template, Workload
from services.deployer.runtimes.catalogue import RUNTIMES, Runtime
from shared.secrets import Tampered

__all__ = ["Unbuildable", "workloads"]


class Unbuildable(Exception):
    """What is stored of a version does not make a template. `reason` is one word, as of a condition."""

    def __init__(self, reason: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.advice = advice


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
    """What each live version should look like. Only what a replica is made of enters its template.

    What is stopped starts no replica: its templates are empty, so that nothing can keep it from stopping. Raises
    Unbuildable.
    """
    return [
        Workload(
            uid=uid,
            id=deployment,
            group=group,
            version=version["number"],
            template=Template(runtime=version["runtime"], command=())
            if stopped
            else _template(uid, version, stage=spec["stage"], vault=vault),
            replicas=0 if stopped else version["replicas"]["min"],
            keep=keep,
            serving=serving,
        )
        for version in spec["versions"]
    ]


def _template(uid: UUID, version: VersionSpec, *, stage: str, vault: EnvVault) -> Template:
    runtime, size = _runtime(version), version["resources"]
    _, name, number = version["model"].split("/")
    salt = vault.nonce(version["env"], about=f"{uid} {version['number']}")
    return Template(
        runtime=runtime.id,
        command=runtime.command,
        args=runtime.args,
        env={**runtime.env, **_opened(version, vault), **_local_path(version)},
        stage=stage,
        model=Model(name=name, version=int(number), digest=version["digest"], size=version["size"]),
        resources=Resources(cpu=size["cpu"], memory=size["memory"], gpu=size["gpu"], gpu_model=size["gpu_model"]),
        probe=Probe(path=runtime.health_path, start_seconds=runtime.start_seconds),
        nonce=f"{version['restart'] or ''}{salt}",
        grace_seconds=runtime.grace_seconds,
    )


def _runtime(version: VersionSpec) -> Runtime:
    try:
        return RUNTIMES[version["runtime"]]
    except KeyError:
        raise Unbuildable(
            "RuntimeUnknown",
            f"Version {version['number']} has the runtime {version['runtime']}, which this deployer does not know.",
            "Choose another runtime for it, or run a release of the platform that has this one.",
        ) from None


def _opened(version: VersionSpec, vault: EnvVault) -> dict[str, str]:
    try:
        return vault.open_all(version["env"])
    except (Tampered, ValueError) as error:
        raise Unbuildable(
            "SecretUnreadable",
            f"A secret in the environment of version {version['number']} does not open.",
            "Set its secrets again, or run the deployer with the MOORAGE_SECRET_KEY that they were stored with.",
        ) from error


def _local_path(version: VersionSpec) -> dict[str, str]:
    """A `file://` artifact is read where it lies: the platform pulls nothing and so knows no path."""
    address = urlsplit(version["artifact"]) if isinstance(version["artifact"], str) else None
    if version["digest"] is not None or address is None or address.scheme != "file":
        return {}
    path = unquote(address.path)
    return {"MOORAGE_MODEL_PATH": path, "KUBEFLOW_MODEL_PATH": path}
