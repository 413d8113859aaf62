"""What the API says of replicas, and of what the platform did."""

from pydantic import BaseModel, Field

from services.deployer.deployments.schemas import FailureView
from shared.http import Timestamp


class ReplicaView(BaseModel):
    id: str = Field(examples=["churn-1-x7k2p"])
    version: int
    phase: str = Field(description="Starting, Ready, Unready, Failed, Draining, Ended", examples=["Ready"])
    address: str | None = Field(description="host:port within the platform", examples=["127.0.0.1:20017"])
    routable: bool = Field(description="requests may be sent to it")
    restarts: int
    started_at: Timestamp | None
    failure: FailureView | None


class StepView(BaseModel):
    at: Timestamp
    step: str = Field(examples=["replica_ready"])
    message: str = Field(examples=["Replica churn-1-x7k2p of version 1 is ready."])
