"""Bodies of artifacts."""

from pydantic import BaseModel, Field


class ArtifactView(BaseModel):
    """Bytes that we keep."""

    uri: str = Field(description="give it as `artifact` of a model version", examples=["registry://sha256:9f86d0…"])
    digest: str = Field(description="SHA-256 of the bytes", examples=["sha256:9f86d0…"])
    size: int = Field(description="bytes", examples=[1048576])


class UploadView(BaseModel):
    """An upload that can be resumed."""

    id: str = Field(examples=["0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"])
    offset: int = Field(description="bytes that have arrived", examples=[524288])
    size: int | None = Field(description="bytes of the whole, if announced", examples=[1048576])
    complete: bool
    artifact: ArtifactView | None = Field(description="what it has become; null until it is complete")
