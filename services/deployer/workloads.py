"""From a version's spec to what the platform is told: a `Template` and a `Workload`. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from services.deployer.deployments.domain import SealedValue, Spec, VersionSpec
from services.deployer.deployments.policy import CONTAINER_FIELDS
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import (
    Capabilities,
    ExistingClaim,
    Exposure,
    LabelledClaim,
    Memory,
    Model,
    Nfs,
    Probe,
    PullSecret,
    Resources,
    Template,
    Toleration,
    Volume,
    Workload,
)
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
    capabilities: Capabilities,
) -> list[Workload]:
    """What each live version should look like. Only what a replica is made of enters its template.

    What is stopped starts no replica: its templates are all but empty, so that nothing can keep it from stopping. Its
    volumes and its address stay. Raises Unbuildable.
    """
    return [
        Workload(
            uid=uid,
            id=deployment,
            group=group,
            version=version["number"],
            template=Template(runtime=version["runtime"], command=(), volumes=_volumes(version))
            if stopped
            else _template(uid, version, stage=spec["stage"], vault=vault, capabilities=capabilities),
            replicas=0 if stopped else version["replicas"]["min"],
            most=0 if stopped else version["replicas"]["max"],
            exposure=_exposure(version),
            keep=keep,
            serving=serving,
        )
        for version in spec["versions"]
    ]


def _template(uid: UUID, version: VersionSpec, *, stage: str, vault: EnvVault, capabilities: Capabilities) -> Template:
    if not capabilities.containers and any(field in version for field in CONTAINER_FIELDS):
        raise Unbuildable(
            "UnsupportedByPlatform",
            f"Version {version['number']} was made for a platform of containers, and this one runs processes.",
            f"Clear {', '.join(field for field in CONTAINER_FIELDS if field in version)}, or run it on Kubernetes.",
        )
    runtime, size = _runtime(version), version["resources"]
    _, name, number = version["model"].split("/")
    secrets, pull_secret = _secrets(version, vault), _pull_secret(version, vault)
    salt = vault.nonce(about=f"{uid} {version['number']}") if secrets or pull_secret else ""
    plain = {name: value for name, value in version["env"].items() if isinstance(value, str)}
    return Template(
        runtime=runtime.id,
        command=runtime.command,
        args=runtime.args,
        image=version.get("image", ""),
        env={**runtime.env, **plain, **_local_path(version)},
        secrets=secrets,
        files=version.get("config_files", {}),
        volumes=_volumes(version),
        pull_secret=pull_secret,
        node_selector=size.get("node_selector", {}),
        tolerations=tuple(_toleration(**each) for each in size.get("tolerations", ())),
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


def _secrets(version: VersionSpec, vault: EnvVault) -> dict[str, str]:
    sealed = {name: value for name, value in version["env"].items() if not isinstance(value, str)}
    return {name: _opened(value, f"The secret variable {name}", version, vault) for name, value in sealed.items()}


def _pull_secret(version: VersionSpec, vault: EnvVault) -> PullSecret | None:
    if (secret := version.get("image_pull_secret")) is None:
        return None
    password = _opened(secret["password"], "The password of the image pull secret", version, vault)
    return PullSecret(server=secret["server"], username=secret["username"], password=password)


def _opened(value: SealedValue, what: str, version: VersionSpec, vault: EnvVault) -> str:
    try:
        return vault.open(value)
    except (Tampered, ValueError) as error:
        raise Unbuildable(
            "SecretUnreadable",
            f"{what} of version {version['number']} does not open.",
            "Set its secrets again, or run the deployer with the MOORAGE_SECRET_KEY that they were stored with.",
        ) from error


def _volumes(version: VersionSpec) -> tuple[Volume, ...]:
    return tuple(
        Volume(name=each["name"], path=each["mount_path"], source=_source(each), read_only=each["read_only"])
        for each in version.get("volumes", ())
    )


def _source(volume: Mapping[str, Any]) -> ExistingClaim | LabelledClaim | Nfs | Memory:
    match volume:
        case {"pvc": {"claim": str(claim)}}:
            return ExistingClaim(claim)
        case {"pvc": {"storage": int(storage), "match_labels": labels}}:
            return LabelledClaim(storage=storage, labels=labels)
        case {"nfs": {"server": str(server), "path": str(path), "storage": int(storage)}}:
            return Nfs(server=server, path=path, storage=storage)
        case _:
            return Memory(volume["memory"].get("size"))


def _toleration(*, toleration_seconds: int | None = None, **same: str) -> Toleration:
    return Toleration(seconds=toleration_seconds, **same)


def _exposure(version: VersionSpec) -> Exposure | None:
    if (service := version.get("service")) is None:
        return None
    return Exposure(type=service["type"], port=service["port"], external_ips=tuple(service["external_ips"]))


def _local_path(version: VersionSpec) -> dict[str, str]:
    """A `file://` artifact is read where it lies: the platform pulls nothing and so knows no path."""
    address = urlsplit(version["artifact"]) if isinstance(version["artifact"], str) else None
    if version["digest"] is not None or address is None or address.scheme != "file":
        return {}
    path = unquote(address.path)
    return {"MOORAGE_MODEL_PATH": path, "KUBEFLOW_MODEL_PATH": path}
