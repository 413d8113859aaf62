"""The body of an endpoint."""

from typing import Literal

from pydantic import BaseModel, Field


class Endpoint(BaseModel):
    url: str = Field(description="split by the weights", examples=["http://127.0.0.1:8080/deployment/churn"])
    versions: dict[str, str] = Field(
        description="always that version, by number", examples=[{"1": "http://127.0.0.1:8080/predict/churn/1"}]
    )
    hosts: list[str] = Field(description="host names of its own")
    grpc: str | None = Field(description="where gRPC is spoken, if it is")
    access: Literal["private", "public"]
    example: str = Field(
        description="a call that works as shown, with a client's name and token filled in if it is private"
    )
    enforced: bool = Field(description="every Envoy follows the latest change")
    reason: str | None = Field(description="why not")
