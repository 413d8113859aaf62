"""Bodies of models."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from shared.http import Body, DnsLabel, Timestamp
from shared.http.schemas import Text

ModelLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", min_length=1, max_length=63)]
Framework = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=63)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f]+$", max_length=63, to_lower=True)]


def _unique(tags: list[str]) -> list[str]:
    return sorted(set(tags))


Tags = Annotated[list[Tag], Field(max_length=50), AfterValidator(_unique)]
Aliases = Annotated[
    dict[ModelLabel, Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)] | None], Field(max_length=100)
]

_FRAMEWORK = Field(default=None, description="what it was made with", examples=["sklearn"])
_TAGS = Field(default=None, description="in lower case, without spaces", examples=[["retention", "tabular"]])


class ModelCreate(Body):
    group: DnsLabel = Field(examples=["risk"])
    name: ModelLabel = Field(description="unique in the group; never changes", examples=["churn"])
    framework: Framework | None = _FRAMEWORK
    description: Text | None = None
    tags: Tags | None = _TAGS


class ModelPatch(Body):
    """A JSON merge patch: null clears."""

    framework: Framework | None = _FRAMEWORK
    description: Text | None = None
    tags: Tags | None = _TAGS
    aliases: Aliases | None = Field(
        default=None, description="alias → version; null removes one", examples=[{"champion": 3, "candidate": None}]
    )

    def columns(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"framework": "", "description": "", "tags": []}
        return {name: getattr(self, name) or empty[name] for name in sorted(self.model_fields_set & set(empty))}


class ModelView(BaseModel):
    group: str = Field(examples=["risk"])
    name: str = Field(examples=["churn"])
    framework: str = Field(description="what it was made with", examples=["sklearn"])
    description: str
    tags: list[str]
    aliases: dict[str, int] = Field(examples=[{"champion": 3}])
    latest: int | None = Field(description="the newest version; null: there is none", examples=[3])
    metrics_summary: str = Field(description="of the latest version", examples=["auc=0.91, loss=0.32"])
    created_by: str = Field(examples=["ana"])
    created_at: Timestamp
    updated_at: Timestamp
