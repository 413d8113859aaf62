"""Bodies of the audit log."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from shared.http import Timestamp


class RowChangeView(BaseModel):
    """One row of the database that came, changed or went."""

    kind: str | None = Field(default=None, description="what it is a row of", examples=["members"])
    key: dict[str, Any] = Field(
        default={},
        description="what tells this row from others of its kind",
        examples=[{"group_id": "risk", "user_id": "ana"}],
    )
    before: dict[str, Any] | None = Field(default=None, description="null: it was made", examples=[None])
    after: dict[str, Any] | None = Field(
        default=None, description="null: it was removed", examples=[{"permission": "edit"}]
    )
    omitted: bool = Field(default=False, description="true, and nothing else: there were more than are shown")


class EntryView(BaseModel):
    id: int = Field(description="of the entry; not the order in which entries were committed", examples=[1815])
    at: Timestamp = Field(description="when it was done")
    service: str = Field(description="which of the four services did it", examples=["registry"])
    user: str | None = Field(description="null: not known", examples=["bob"])
    token: UUID | None = Field(description="the personal access token that it was done with, if it was one")
    group: str | None = Field(description="the group whose permission was needed, if any", examples=["risk"])
    action: str = Field(description="the operation's id in the OpenAPI document", examples=["put_member"])
    method: str = Field(description="of the request", examples=["PUT"])
    path: str = Field(
        description="the resource; of one that was made, its own", examples=["/api/v1/groups/risk/members/ana"]
    )
    outcome: Literal["done", "denied"] = Field(description="whether it was done, or denied")
    status: int = Field(description="of the answer", examples=[200])
    code: str | None = Field(description="of the problem, if it was denied", examples=["permission_denied"])
    request_id: str = Field(
        description="the X-Request-Id of the answer, in every log line and event that came of it",
        examples=["0f8a5c3e9d7b4f6a8c1e2d3b4a5f6c7d"],
    )
    address: str = Field(description="where the request came from", examples=["192.0.2.7"])
    changes: list[RowChangeView] = Field(
        description="what it changed; never anything secret. A deployment's spec is in its revisions, which this names"
    )
    position: int | None = Field(
        description="in the chain, without gaps; null for the moment until it is sealed", examples=[1815]
    )
    hash: str | None = Field(
        description="keyed, over the entry and the hash before it",
        examples=["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"],
    )
