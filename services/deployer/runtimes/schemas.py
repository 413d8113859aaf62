"""What the API says of a serving runtime."""

from pydantic import BaseModel, Field


class RuntimeView(BaseModel):
    id: str = Field(examples=["inference"])
    title: str
    description: str
    protocols: list[str] = Field(description="what its replicas speak", examples=[["predict"]])
    schemes: list[str] = Field(description="artifact addresses that it can load", examples=[["registry", "file"]])
    health_path: str = Field(description="GET it: 2xx once the model is loaded", examples=["/readyz"])
    command: list[str]
    args: list[str]


class RuntimeList(BaseModel):
    items: list[RuntimeView]
    next: str | None = Field(default=None, description="always null: there is one page")
