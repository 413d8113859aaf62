"""What a version's pods mount: the model, a scratch folder, the files in `/config/`, and the template's volumes.

The claims and volumes that these refer to are `storage`'s. A template's volume cannot take a name or a path of ours.
"""

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests.manifest import JSON
from services.deployer.platforms.kubernetes.manifests.resources import size
from services.deployer.platforms.platform import ExistingClaim, LabelledClaim, Memory, Nfs, Volume, Workload

MODELS = "/models"
CONFIG = "/config"
SCRATCH = "/tmp"  # noqa: S108 - a volume of the pod's own

_MODELS, _CONFIG, _SCRATCH = "models", "config", "scratch"


def model_digest(workload: Workload) -> str | None:
    """Of the model that has to be pulled."""
    model = workload.template.model
    return model.digest if model is not None else None


def model_path(workload: Workload) -> str | None:
    """Where the replica finds it."""
    digest = model_digest(workload)
    return f"{MODELS}/{digest.removeprefix('sha256:')}" if digest else None


def volumes(workload: Workload) -> list[JSON]:
    """The volumes of the pod."""
    asked = workload.template
    made: list[JSON] = [{"name": _SCRATCH, "emptyDir": {}}]
    if model_digest(workload):
        made.append({"name": _MODELS, "emptyDir": {}})
    if asked.files:
        made.append({"name": _CONFIG, "configMap": {"name": names.files(workload)}})
    return made + [{"name": _named(each), **_source(workload, each)} for each in asked.volumes]


def of_pull() -> list[JSON]:
    """The mounts of the init container."""
    return [_mount(_SCRATCH, SCRATCH), _mount(_MODELS, MODELS)]


def of_replica(workload: Workload) -> list[JSON]:
    asked = workload.template
    made = [_mount(_SCRATCH, SCRATCH)]
    if model_digest(workload):
        made.append(_mount(_MODELS, MODELS, read_only=True))
    if asked.files:
        made.append(_mount(_CONFIG, CONFIG, read_only=True))
    return made + [_mount(_named(each), each.path, read_only=each.read_only) for each in asked.volumes]


def _named(volume: Volume) -> str:
    return f"volume-{volume.name}"


def _source(workload: Workload, volume: Volume) -> JSON:
    match volume.source:
        case ExistingClaim(claim):
            return _claim(claim, read_only=volume.read_only)
        case LabelledClaim():
            return _claim(names.labelled_claim(volume.source), read_only=volume.read_only)
        case Nfs():
            return _claim(names.nfs_volume(workload, volume.name, volume.source), read_only=volume.read_only)
        case Memory(limit):
            return {"emptyDir": {"medium": "Memory", **({} if limit is None else {"sizeLimit": size(limit)})}}


def _claim(name: str, *, read_only: bool) -> JSON:
    return {"persistentVolumeClaim": {"claimName": name, **_flag(read_only)}}


def _mount(name: str, path: str, *, read_only: bool = False) -> JSON:
    return {"name": name, "mountPath": path, **_flag(read_only)}


def _flag(read_only: bool) -> JSON:
    return {"readOnly": True} if read_only else {}
