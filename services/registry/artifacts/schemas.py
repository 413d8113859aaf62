"""Bodies of artifacts."""

from pydantic import BaseModel, Field


class ArtifactView(BaseModel):
    """Bytes that we keep."""

    uri: str = Field(description="give it as `artifact` of a model version", examples=["registry://sha256:9f86d0…"])
    digest: str = Field(description="SHA-256 of the bytes", examples=["sha256:9f86d0…"])
    size: int = Field(description="bytes", examples=[1048576])
