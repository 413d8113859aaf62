"""Bodies of service accounts."""

from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.users.schemas import UserName
from shared.http import Body, Timestamp
from shared.http.schemas import Text

LONGEST_OVERLAP = 7 * 86_400


class NewServiceAccount(Body):
    name: UserName = Field(examples=["nightly-training"])
    description: Text = Field(default="", description="what it is for", examples=["Registers a model each night."])


class SecretRotation(Body):
    overlap: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP)] = Field(
        default=0, description="seconds that the secret before is good too"
    )


class ServiceAccountView(BaseModel):
    name: str = Field(description="its name as a user, and its client_id", examples=["nightly-training"])
    description: str = Field(description="what it is for", examples=["Registers a model each night."])
    disabled: bool = Field(description="by `PATCH /users/{user}`: it can neither sign in nor use an access token")
    last_used_at: Timestamp | None = Field(description="when it last signed in; null: never")
    created_at: Timestamp = Field(description="when it was made")
    created_by: str = Field(description="who made it", examples=["admin"])


class NewServiceAccountView(ServiceAccountView):
    client_id: str = Field(description="its name; OAuth's word for it", examples=["nightly-training"])
    client_secret: str | None = Field(
        description="shown in this answer and never again; null in a dry run",
        json_schema_extra={"format": "password"},
        examples=["moorsec_bW9vcmFnZS1leGFtcGxlLW9ubHktbm90LWEtdG9rZW4"],
    )
