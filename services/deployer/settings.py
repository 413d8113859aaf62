"""The deployer's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shared.settings import ServiceSettings


class DeployerSettings(ServiceSettings):
    platform: Literal["local"] = Field(default="local", description="where replicas run")
    local_folder: Path = Field(default=Path("replicas"), description="state, logs and models of the local platform")
    registry_url: str = Field(default="http://127.0.0.1:8081", description="where replicas pull uploaded models")
    pull_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = Field(
        default=900, description="how long the address that a replica pulls its model from is good"
    )
    versions_limit: Annotated[int, Field(ge=1, le=50)] = Field(default=6, description="most live versions a deployment")
    reconcile_workers: Annotated[int, Field(ge=1, le=100)] = Field(default=4, description="keys worked on at once")
    resync_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="how often it looks for what lost wake-ups have left"
    )
