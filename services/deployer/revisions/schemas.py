"""What the API says of a deployment's history."""

from typing import Any

from pydantic import BaseModel, Field

from services.deployer.deployments.container import MaskedSecret, PullSecretView, Service, Volume
from services.deployer.deployments.schemas import ChangeView, ReplicasView, TrafficView
from shared.http import Timestamp


class RevisionVersion(BaseModel):
    """A version as it was resolved: the exact model and its digest."""

    number: int
    model: str = Field(examples=["risk/churn/3"])
    alias: str | None = Field(description="the alias it was asked for by", examples=["champion"])
    digest: str | None
    runtime: str
    instance_type: str
    replicas: ReplicasView
    env: dict[str, str | MaskedSecret]
    restart: int = Field(description="rises with each redeploy, and when a variable becomes secret or is not any more")
    image: str | None = None
    image_pull_secret: PullSecretView | None = None
    config_files: dict[str, str] = Field(default_factory=dict)
    volumes: list[Volume] = Field(default_factory=list)
    service: Service | None = None


class RevisionSpec(BaseModel):
    name: str
    description: str
    metadata: dict[str, Any]
    stage: str
    access: str
    versions: list[RevisionVersion]
    traffic: TrafficView
    progress_deadline: int = Field(description="seconds")


class RevisionView(BaseModel):
    """One accepted change. It never changes and is kept for good, also once the deployment is deleted."""

    number: int
    at: Timestamp
    by: str = Field(examples=["ana"])
    action: str = Field(description="what was done", examples=["create", "update", "rollback", "delete"])
    message: str
    spec: RevisionSpec = Field(description="the full state that this change led to")
    diff: list[ChangeView] = Field(description="against the revision before; versions by their number")
    stopped: bool
