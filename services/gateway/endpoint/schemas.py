"""The body of an endpoint."""

from typing import Literal

from pydantic import BaseModel, Field


class Endpoint(BaseModel):
    url: str = Field(description="split by the weights", examples=["http://127.0.0.1:8080/deployment/churn"])
    versions: dict[str, str] = Field(
        description="always that version, by number", examples=[{"1": "http://127.0.0.1:8080/predict/churn/1"}]
    )
    hosts: list[str] = Field(description="host names of its own", examples=[["churn.models.example.com"]])
    grpc: str | None = Field(description="where gRPC is spoken, if it is")
    access: Literal["private", "public"] = Field(description="private: only its clients may call it")
    example: str = Field(
        description="a `curl` that works as shown, with `<client>:<token>` replaced if it is private",
        examples=[
            "curl -H 'Content-Type: application/json' --data-raw '{}' http://127.0.0.1:8080/deployment/churn/predict"
        ],
    )
    example_is_generic: bool = Field(
        description="the body of `example` is a placeholder: neither the model nor the deployment says what it takes"
    )
    enforced: bool = Field(description="every Envoy follows the latest change")
    reason: str | None = Field(description="why not")
