"""Bodies of personal access tokens."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from shared.access_tokens import SCOPE
from shared.http import Body, Timestamp

TokenName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$", max_length=63),
    Field(description="unique among your tokens", examples=["nightly-training"]),
]

Scope = Annotated[
    str,
    StringConstraints(pattern=SCOPE),
    Field(
        description="`<group>:<permission>`, `*:<permission>` for all groups that you are a member of, or `admin`",
        examples=["risk:edit"],
    ),
]


class NewAccessToken(Body):
    name: TokenName
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=50)] = Field(
        description="what it may do: never more than you may yourself at that moment; an administrator's power only"
        " with `admin`",
        examples=[["*:read", "risk:edit"]],
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="at most 366 days from now; without it 90 days", examples=["2027-01-31T00:00:00Z"]
    )


class AccessTokenView(BaseModel):
    id: UUID = Field(description="of the token")
    name: str = Field(description="unique among the user's tokens", examples=["nightly-training"])
    user: str = Field(description="whom it acts for", examples=["ana"])
    scopes: list[str] = Field(
        description="what it may do, within what its user may", examples=[["*:read", "risk:edit"]]
    )
    expires_at: Timestamp = Field(description="refused from then on")
    created_at: Timestamp = Field(description="when it was made")
    last_used_at: Timestamp | None = Field(description="exact to about five seconds; null: never")


class NewAccessTokenView(AccessTokenView):
    token: str | None = Field(
        description="shown in this answer and never again; null in a dry run",
        json_schema_extra={"format": "password"},
        examples=["moorpat_bW9vcmFnZS1leGFtcGxlLW9ubHktbm90LWEtdG9rZW4"],
    )
