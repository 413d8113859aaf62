"""The registry's settings, from the environment (`MOORAGE_…`)."""

from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field, field_validator
from pydantic_settings import NoDecode

from shared.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    blob_folder: Path = Field(description="folder of the uploaded bytes; many registries may share one")
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
