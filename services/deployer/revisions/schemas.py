"""What the API says of a deployment's history."""

from typing import Any

from pydantic import BaseModel, Field

from services.deployer.deployments.container import MaskedSecret, PullSecretView, Service, Volume
from services.deployer.deployments.schemas import ChangeView, ReplicasView, TrafficView
from shared.http import Timestamp


class RevisionVersion(BaseModel):
    """A version as it was resolved: the exact model and its digest."""

    number: int = Field(description="of the version", examples=[1])
    model: str = Field(description="the exact version", examples=["risk/churn/3"])
    alias: str | None = Field(description="the alias it was asked for by", examples=["champion"])
    digest: str | None = Field(
        description="SHA-256 of the artifact; null: it has none",
        examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    runtime: str = Field(description="one of /runtimes", examples=["inference"])
    instance_type: str = Field(description="one of /instance-types", examples=["cpu-1"])
    replicas: ReplicasView = Field(description="how many, and up to how many")
    env: dict[str, str | MaskedSecret] = Field(
        description="environment of its replicas; secrets are masked",
        examples=[{"THREADS": "1", "API_KEY": {"secret": True}}],
    )
    restart: int = Field(
        description="rises with each redeploy, and when a variable becomes secret or is not any more", examples=[0]
    )
    image: str | None = Field(default=None, description="in place of the runtime's own; null: that one")
    image_pull_secret: PullSecretView | None = Field(default=None, description="what the image's registry asks for")
    config_files: dict[str, str] = Field(default_factory=dict, description="name → text, in `/config/`")
    volumes: list[Volume] = Field(default_factory=list, description="what is mounted")
    service: Service | None = Field(default=None, description="its address past the gateway; null: it has none")


class RevisionSpec(BaseModel):
    name: str = Field(description="for people", examples=["Churn score"])
    description: str = Field(description="for people", examples=["Who is about to leave."])
    metadata: dict[str, Any] = Field(description="free key–value pairs", examples=[{"team": "retention"}])
    stage: str = Field(description="always `production`", examples=["production"])
    access: str = Field(description="private: only its clients may call it", examples=["private"])
    versions: list[RevisionVersion] = Field(description="the live ones")
    traffic: TrafficView = Field(description="the split over the versions")
    progress_deadline: int = Field(description="seconds", examples=[600])


class RevisionView(BaseModel):
    """One accepted change. It never changes and is kept for good, also once the deployment is deleted."""

    number: int = Field(description="from 1, without gaps", examples=[7])
    at: Timestamp = Field(description="when it was accepted")
    by: str = Field(description="whose change it is", examples=["ana"])
    action: str = Field(description="what was done", examples=["create", "update", "rollback", "delete"])
    message: str = Field(description="why, as they said", examples=["try the candidate"])
    spec: RevisionSpec = Field(description="the full state that this change led to")
    diff: list[ChangeView] = Field(description="against the revision before; versions by their number")
    stopped: bool = Field(description="whether it was stopped by then")
