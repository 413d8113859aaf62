"""Bodies of clients."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from services.gateway.clients.domain import LONGEST_OVERLAP
from services.gateway.domain import Enforcement
from shared.http import Body, Timestamp

ClientName = Annotated[
    str,
    # At least one that is no dot: "." and ".." could not be named in a URL.
    StringConstraints(pattern=r"^[A-Za-z0-9.-]*[A-Za-z0-9-][A-Za-z0-9.-]*$", max_length=63),
    Field(
        description="letters, digits, '.' and '-'; the model learns it as X-Forwarded-User",
        examples=["churn-batch"],
    ),
]

ExpiresAt = Annotated[
    AwareDatetime | None,
    Field(description="refused from then on; null: never", examples=["2030-01-01T00:00:00Z"]),
]


class ClientView(BaseModel):
    name: str = Field(description="the model learns it as X-Forwarded-User", examples=["churn-batch"])
    expires_at: Timestamp | None = Field(description="refused from then on; null: never")
    previous_until: Timestamp | None = Field(description="until when the token before the last rotation is let in too")
    last_used_at: Timestamp | None = Field(
        description="as exact as the metrics, which follow within seconds; null: not since it was made"
    )
    created_at: Timestamp = Field(description="when it was made")
    created_by: str = Field(description="who made it", examples=["ana"])


class EnforcementView(BaseModel):
    enforced: bool | None = Field(description="whether every Envoy follows it by now; null: not waited for")
    reason: str | None = Field(default=None, description="why it is not enforced yet")

    @classmethod
    def fields_of(cls, enforcement: Enforcement) -> dict[str, bool | str | None]:
        return {"enforced": enforcement.enforced, "reason": enforcement.reason}


class NewClientView(ClientView, EnforcementView):
    token: str | None = Field(
        description="shown this once: the password of `-u client:token`, or alone as `Authorization: Bearer`; "
        "null in a dry run",
        examples=["moor_churn-batch_bW9vcmFnZS1leGFtcGxlLW9ubHktbm90LWEtdG9rZW4"],
    )


class RevokedView(EnforcementView):
    name: str = Field(description="of the client that was", examples=["churn-batch"])


class NewClient(Body):
    name: ClientName
    expires_at: ExpiresAt = None


class Rotation(Body):
    overlap: int = Field(
        default=0,
        ge=0,
        le=LONGEST_OVERLAP,
        description="seconds that the token before is let in too, unless it expires or the client is rotated again",
    )
    expires_at: ExpiresAt = Field(default=None, description="absent: as before; null: never")
