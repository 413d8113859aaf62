"""Bodies of service accounts."""

from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.users.schemas import UserName
from shared.http import Body, Timestamp
from shared.http.schemas import Text

LONGEST_OVERLAP = 7 * 86_400


class NewServiceAccount(Body):
    name: UserName = Field(examples=["nightly-training"])
    description: Text = ""


class SecretRotation(Body):
    overlap: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP)] = Field(
        default=0, description="seconds that the secret before is good too"
    )


class ServiceAccountView(BaseModel):
    name: str = Field(description="its name as a user, and its client_id", examples=["nightly-training"])
    description: str
    disabled: bool = Field(description="by `PATCH /users/{user}`: it can neither sign in nor use an access token")
    last_used_at: Timestamp | None = Field(description="when it last signed in; null: never")
    created_at: Timestamp
    created_by: str = Field(examples=["admin"])


class NewServiceAccountView(ServiceAccountView):
    client_id: str = Field(examples=["nightly-training"])
    client_secret: str | None = Field(
        description="shown in this answer and never again; null in a dry run", json_schema_extra={"format": "password"}
    )
