"""What the API says of a serving runtime."""

from pydantic import BaseModel, Field


class RuntimeView(BaseModel):
    id: str = Field(description="give it as `runtime` of a version", examples=["inference"])
    title: str = Field(description="for people", examples=["InferenceService"])
    description: str = Field(description="what it serves, and how", examples=["Serves a class InferenceService."])
    protocols: list[str] = Field(description="what its replicas speak", examples=[["predict"]])
    schemes: list[str] = Field(description="artifact addresses that it can load", examples=[["registry", "file"]])
    health_path: str = Field(description="GET it: 2xx once the model is loaded", examples=["/readyz"])
    command: list[str] = Field(description="what a replica runs", examples=[["python", "-m", "modelserver"]])
    args: list[str] = Field(description="of the command", examples=[["--runtime", "inference"]])


class RuntimeList(BaseModel):
    items: list[RuntimeView] = Field(description="in alphabetical order")
    next: str | None = Field(default=None, description="always null: there is one page")
