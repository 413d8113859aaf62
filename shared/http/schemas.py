"""Pieces of request and answer bodies that all services share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, StringConstraints, WithJsonSchema

LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"

DnsLabel = Annotated[str, StringConstraints(pattern=LABEL, min_length=1, max_length=40)]
"""An id: lower-case letters, digits and inner hyphens, at most 40 characters."""

# The syntax of Kubernetes labels; its own length limit is enforced where it is meant.
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    return value


Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_storable)]
"""Free text that PostgreSQL can keep."""

Title = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
"""A name for people."""

Timestamp = Annotated[
    datetime,
    PlainSerializer(
        lambda at: at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), return_type=str
    ),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""RFC 3339 in UTC with milliseconds."""


class Body(BaseModel):
    """Base of request bodies: a field that is not known is refused, by name."""

    model_config = ConfigDict(extra="forbid")
