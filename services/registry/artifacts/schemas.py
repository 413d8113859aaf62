"""Bodies of artifacts."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from shared.http import Body

Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x20\x7f]+$")]


class FetchRequest(Body):
    uri: Uri = Field(
        description="http(s), or an object of s3 or gs that this installation opens to it",
        examples=["https://example.org/models/churn.tar.gz"],
    )
    digest: str | None = Field(
        default=None,
        examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        max_length=100,
        description="SHA-256 that the bytes must have",
    )


class ArtifactView(BaseModel):
    """Bytes that we keep."""

    uri: str = Field(description="give it as `artifact` of a model version", examples=["registry://sha256:9f86d0…"])
    digest: str = Field(description="SHA-256 of the bytes", examples=["sha256:9f86d0…"])
    size: int = Field(description="bytes", examples=[1048576])


class UploadView(BaseModel):
    """An upload that can be resumed."""

    id: str = Field(description="of the upload", examples=["0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"])
    offset: int = Field(description="bytes that have arrived", examples=[524288])
    size: int | None = Field(description="bytes of the whole, if announced", examples=[1048576])
    complete: bool = Field(description="whether it has become an artifact")
    artifact: ArtifactView | None = Field(description="what it has become; null until it is complete")
