"""Bodies and views of what a version says about its container: image, config files, volumes, an address of its own.

Names, limits and what a text means are the contract. Who may ask for what is not decided here but in `policy`.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from shared.http import Body, DnsLabel
from shared.http.schemas import LabelKey, LabelValue
from shared.quantities import Bytes

__all__ = [
    "ConfigFiles",
    "ConfigFilesPatch",
    "Image",
    "MaskedSecret",
    "PullSecret",
    "PullSecretPatch",
    "PullSecretView",
    "Secret",
    "SecretText",
    "Service",
    "ServicePatch",
    "Volume",
    "Volumes",
]

CONFIG_BYTES = 512 * 2**10
"""Most bytes of a version's config files. A ConfigMap holds twice as much, a request of the API all of six versions."""

RESERVED_PATHS = ("/config", "/dev", "/models", "/proc", "/sys", "/tmp")  # noqa: S108  # in a container, not here
"""Where the platform itself mounts something."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in a container, not here
"""The one place below them that is the user's: numeric libraries pass tensors between processes there."""

_PART = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_STEP = r"/[A-Za-z0-9_@+.-]+"

# Secrets

SecretText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=8192)]


class Secret(Body):
    """A secret value: `{"secret": "…"}` goes in, `{"secret": true}` comes out; that, going in, means: as it stands."""

    secret: Annotated[SecretText | Literal[True], Field(description="the value, or true for the one that stands")]


class MaskedSecret(BaseModel):
    secret: Literal[True] = Field(default=True, description="there is one, which is not shown")


# Image

Image = Annotated[
    str,
    StringConstraints(
        pattern=rf"^({_HOST}(:[0-9]{{1,5}})?/)?{_PART}(/{_PART})*"
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$",
        max_length=500,
    ),
    Field(
        description="in place of the runtime's own, with all that the runtime's command needs; a tag may move, "
        "a digest (`@sha256:…`) does not",
        examples=["registry.example.com/risk/serving:1.4"],
    ),
]
RegistryServer = Annotated[
    str,
    StringConstraints(pattern=rf"^{_HOST}(:[0-9]{{1,5}})?$", max_length=253),
    Field(description="the registry's host, as the image names it", examples=["registry.example.com"]),
]
Username = Annotated[str, StringConstraints(pattern=r"^[^\x00:]+$", min_length=1, max_length=200)]


class PullSecret(Body):
    """What the registry of a private image asks for. A password that stands does so for its server alone."""

    server: RegistryServer
    username: Username = Field(description="whom the registry knows", examples=["risk-pull"])
    password: Secret = Field(description="the registry's password or token")


class PullSecretPatch(Body):
    server: RegistryServer | None = Field(default=None, description="the registry's host, as the image names it")
    username: Username | None = Field(default=None, description="whom the registry knows")
    password: Secret | None = Field(default=None, description="the registry's password or token")


class PullSecretView(BaseModel):
    server: str = Field(description="the registry's host", examples=["registry.example.com"])
    username: str = Field(description="whom the registry knows", examples=["risk-pull"])
    password: MaskedSecret = Field(description="which is not shown")


# Config files

FileName = Annotated[str, StringConstraints(pattern=r"^\.?[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}$")]
FileText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", max_length=CONFIG_BYTES)]
_HEADER = re.compile(r"^---([^\s-]\S*)[ \t]*\r?(?:\n|\Z)", re.MULTILINE)


def split_files(value: Any) -> Any:
    """Cube-Studio's form, one text of `---name` and the file's lines, as the files it holds; all else as it is.

    A bare `---` or `-----BEGIN …` belongs to a file: YAML and PEM have such lines.
    """
    if not isinstance(value, str):
        return value
    first, *rest = _HEADER.split(value)
    if first.strip():
        raise ValueError("must begin with ---name, the line before a file's own")
    names = rest[::2]
    if len(set(names)) < len(names):
        raise ValueError("has two files of one name")
    return dict(zip(names, rest[1::2], strict=True))


def _fitting(files: Mapping[str, str]) -> Mapping[str, str]:
    size = sum(len(name) + len(text.encode()) for name, text in files.items())
    if size > CONFIG_BYTES:
        raise ValueError(f"are {size} bytes, which is more than {CONFIG_BYTES}")
    return files


ConfigFiles = Annotated[
    dict[FileName, FileText],
    BeforeValidator(split_files, json_schema_input_type=dict[FileName, FileText] | str),
    AfterValidator(_fitting),
    Field(
        max_length=100,
        description="found in `/config/`, by name; or one text, each file's lines after a line `---name`",
        examples=[{"batching.yaml": "max_size: 8\n"}],
    ),
]
ConfigFilesPatch = dict[FileName, FileText | None] | str
"""Names to merge, or one text for all of them."""

# Volumes


def _absent(value: object) -> bool:
    return value is None


def _plain(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("must not hold . or ..")
    return path


MountPath = Annotated[
    str,
    StringConstraints(pattern=rf"^({_STEP})+$", max_length=255),
    AfterValidator(_plain),
    Field(examples=["/serving/model/mnist"]),
]
ExportedPath = Annotated[
    str,
    StringConstraints(pattern=rf"^(/|({_STEP})+)$", max_length=255),
    AfterValidator(_plain),
    Field(examples=["/serving/model/mnist"]),
]
ClaimName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
Storage = Annotated[Bytes, Field(gt=0, examples=[5 * 2**30])]


class VolumeClaim(Body):
    """A claim of the group's namespace (`claim`), or one made for this version on a volume with these labels."""

    claim: ClaimName | None = Field(
        default=None, description="a claim that is there", examples=["shared-models"], exclude_if=_absent
    )
    storage: Storage | None = Field(default=None, description="bytes of one that is made", exclude_if=_absent)
    match_labels: dict[LabelKey, LabelValue] | None = Field(
        default=None,
        description="labels of the volume that it is made on",
        min_length=1,
        max_length=20,
        examples=[{"model": "mnist"}],
        exclude_if=_absent,
    )

    @model_validator(mode="after")
    def _one_way(self) -> "VolumeClaim":
        made = (self.storage, self.match_labels)
        if (self.claim is None) is (made == (None, None)) or (self.claim is None and None in made):
            raise ValueError("give `claim`, or `storage` and `match_labels`")
        if (self.claim or "").startswith("moorage-"):
            raise ValueError("claims that begin with moorage- are the platform's")
        if any(key.partition("/")[0].endswith("moorage.io") for key in self.match_labels or () if "/" in key):
            raise ValueError("match_labels must not name labels of moorage.io: those volumes are others'")
        return self


class Nfs(Body):
    """A folder of an NFS server, for many readers and writers."""

    server: Annotated[str, StringConstraints(pattern=rf"^{_HOST}$", max_length=253), Field(examples=["10.0.0.9"])] = (
        Field(description="its host or address")
    )
    path: ExportedPath = Field(description="the exported folder")
    storage: Storage = Field(default=2**30, description="bytes, for the books: NFS itself sets no limit")


class MemoryFolder(Body):
    """A folder in memory. It ends with the replica and counts into its memory."""

    size: Storage | None = Field(
        default=None, description="bytes; without it, as much as the replica's memory", exclude_if=_absent
    )


class Volume(Body):
    """What a replica finds at `mount_path`: exactly one of `pvc`, `nfs` and `memory`."""

    name: DnsLabel = Field(description="unique in the version", examples=["model"])
    mount_path: MountPath = Field(description="where the replica finds it")
    read_only: bool = Field(default=False, description="the replica cannot write to it")
    pvc: VolumeClaim | None = Field(default=None, description="a claim", exclude_if=_absent)
    nfs: Nfs | None = Field(default=None, description="a folder of an NFS server", exclude_if=_absent)
    memory: MemoryFolder | None = Field(default=None, description="a folder in memory", exclude_if=_absent)

    @model_validator(mode="after")
    def _one_source(self) -> "Volume":
        if sum(source is not None for source in (self.pvc, self.nfs, self.memory)) != 1:
            raise ValueError("give one of `pvc`, `nfs` and `memory`")
        if self.name.startswith("moorage-"):
            raise ValueError("names that begin with moorage- are the platform's")
        if self.mount_path == SHARED_MEMORY and self.memory:
            return self
        if taken := next((path for path in RESERVED_PATHS if f"{self.mount_path}/".startswith(f"{path}/")), None):
            raise ValueError(f"mount_path must not be in {taken}, which is the platform's")
        return self


def _apart(volumes: Sequence[Volume]) -> Sequence[Volume]:
    for field in ("name", "mount_path"):
        if len({getattr(volume, field) for volume in volumes}) < len(volumes):
            raise ValueError(f"two volumes have the same {field}")
    return volumes


Volumes = Annotated[list[Volume], Field(max_length=20), AfterValidator(_apart)]

# An address of its own


def _address(value: str) -> str:
    address = ipaddress.ip_address(value)
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or "%" in value:
        raise ValueError("is no address that others can reach")
    return str(address)


ExternalIp = Annotated[str, StringConstraints(max_length=45), AfterValidator(_address), Field(examples=["203.0.113.7"])]
ExternalIps = Annotated[list[ExternalIp], Field(max_length=10, description="within the networks set for them")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Service(Body):
    """An address past the gateway, which knows neither clients nor weights: for `access: public` alone."""

    type: Literal["LoadBalancer", "ClusterIP"] = Field(
        default="LoadBalancer", description="LoadBalancer: reached from outside the cluster"
    )
    port: Port = Field(default=80, description="where it listens")
    external_ips: ExternalIps = Field(default_factory=list)


class ServicePatch(Body):
    type: Literal["LoadBalancer", "ClusterIP"] | None = Field(
        default=None, description="LoadBalancer: reached from outside the cluster"
    )
    port: Port | None = Field(default=None, description="where it listens")
    external_ips: ExternalIps | None = Field(default=None, description="within the networks set for them")
