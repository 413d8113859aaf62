"""What the API says of replicas, and of what the platform did."""

from pydantic import BaseModel, Field

from services.deployer.deployments.schemas import FailureView
from shared.http import Timestamp


class ReplicaView(BaseModel):
    id: str = Field(description="of the replica", examples=["churn-1-x7k2p"])
    version: int = Field(description="number of the version that it serves", examples=[1])
    phase: str = Field(description="Starting, Ready, Unready, Failed, Draining, Ended", examples=["Ready"])
    address: str | None = Field(description="host:port within the platform", examples=["127.0.0.1:20017"])
    routable: bool = Field(description="requests may be sent to it")
    restarts: int = Field(description="how often it was started again", examples=[0])
    started_at: Timestamp | None = Field(description="when its present run began; null: not yet")
    failure: FailureView | None = Field(description="why it failed; null: it has not")


class StepView(BaseModel):
    at: Timestamp = Field(description="when it was done")
    step: str = Field(description="what was done; one of a fixed list", examples=["replica_ready"])
    message: str = Field(description="the same in words", examples=["Replica churn-1-x7k2p of version 1 is ready."])
