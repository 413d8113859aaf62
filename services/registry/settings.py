"""The registry's settings, from the environment (`MOORAGE_…`)."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field, StringConstraints, field_validator
from pydantic_settings import NoDecode

from shared.settings import ServiceSettings

# It ends in a slash, so that s3://models/ does not open s3://models-of-others/.
Prefix = Annotated[str, StringConstraints(pattern=r"^(gs|hf|http|https|nfs|pvc|s3)://([^\s]+/)?$")]


class RegistrySettings(ServiceSettings):
    blob_folder: Path = Field(description="folder of the uploaded bytes; many registries may share one")
    blob_store: str = Field(
        default="",
        pattern=r"^((s3|gs|az)://[^\s?#]+)?$",
        description="object store that keeps the uploaded bytes instead, such as s3://bucket/prefix, with credentials"
        " from the environment; the folder then holds only uploads under way",
    )
    unused_blob_hours: float = Field(
        default=24, ge=0, le=24 * 365, description="how long bytes stay that no version and no revision names"
    )
    collect_seconds: float = Field(default=3600, gt=0, description="how often these are looked for")
    upload_limit: ByteSize = Field(default=ByteSize(16 << 30), description="most bytes of one upload")
    unpacked_limit: ByteSize = Field(
        default=ByteSize(64 << 30), description="most bytes that an archive may unpack to; replicas unpack no more"
    )
    free_space_floor: ByteSize = Field(
        default=ByteSize(1 << 30),
        description="bytes that uploads leave free on the disk, which may be the database's too",
    )
    file_folders: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="folders that file:// artifacts may lie in, separated by colons; none by default"
    )

    artifact_prefixes: Annotated[tuple[Prefix, ...], NoDecode] = Field(
        default=("gs://", "hf://", "http://", "https://", "nfs://", "pvc://", "s3://"),
        description="what else the addresses of artifacts may begin with, separated by commas, such as s3://models/",
    )
    fetch_prefixes: Annotated[tuple[Prefix, ...], NoDecode] = Field(
        default=("http://", "https://"),
        description="what the addresses may begin with that the registry fetches itself; objects below s3:// and gs://"
        " are opened with its own credentials, for everybody who may upload",
    )
    fetch_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="private networks that it may fetch from over http(s), separated by commas"
    )

    @field_validator("artifact_prefixes", "fetch_prefixes", "fetch_networks", mode="before")
    @classmethod
    def _by_commas(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("file_folders", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, value.split(":"))) if isinstance(value, str) else value

    @field_validator("file_folders")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for folder in value:
            if not folder.is_absolute():
                raise ValueError(f"{folder} is not an absolute path")
        return value
