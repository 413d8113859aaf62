"""Bodies of models."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from shared.http import Body, DnsLabel, Timestamp
from shared.http.schemas import LABEL, Text

ModelLabel = Annotated[str, StringConstraints(pattern=LABEL, min_length=1, max_length=63)]
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
    group: DnsLabel = Field(description="whose model it is; never changes", examples=["risk"])
    name: ModelLabel = Field(description="unique in the group; never changes", examples=["churn"])
    framework: Framework | None = _FRAMEWORK
    description: Text | None = Field(default=None, description="for people", examples=["Who is about to leave."])
    tags: Tags | None = _TAGS


class ModelPatch(Body):
    """A JSON merge patch: null clears."""

    framework: Framework | None = _FRAMEWORK
    description: Text | None = Field(default=None, description="for people", examples=["Who is about to leave."])
    tags: Tags | None = _TAGS
    aliases: Aliases | None = Field(
        default=None, description="alias → version; null removes one", examples=[{"champion": 3, "candidate": None}]
    )

    def columns(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"framework": "", "description": "", "tags": []}
        return {name: getattr(self, name) or empty[name] for name in sorted(self.model_fields_set & set(empty))}


class ModelView(BaseModel):
    group: str = Field(description="whose model it is", examples=["risk"])
    name: str = Field(description="unique in the group", examples=["churn"])
    framework: str = Field(description="what it was made with", examples=["sklearn"])
    description: str = Field(description="for people", examples=["Who is about to leave."])
    tags: list[str] = Field(description="in alphabetical order", examples=[["retention", "tabular"]])
    aliases: dict[str, int] = Field(description="alias → version", examples=[{"champion": 3}])
    latest: int | None = Field(description="the newest version; null: there is none", examples=[3])
    metrics_summary: str = Field(description="of the latest version", examples=["auc=0.91, loss=0.32"])
    created_by: str = Field(description="who made it", examples=["ana"])
    created_at: Timestamp = Field(description="when it was made")
    updated_at: Timestamp = Field(description="when it, or an alias, was last changed, or a version registered")
