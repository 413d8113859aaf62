"""Bodies of sign-ins."""

from uuid import UUID

from pydantic import BaseModel, Field

from shared.http import Timestamp


class SignInView(BaseModel):
    id: UUID = Field(description="of the sign-in")
    user: str = Field(description="who is signed in", examples=["ana"])
    method: str = Field(
        description="`password`, `client_credentials`, or the name of an identity provider", examples=["password"]
    )
    address: str = Field(description="where it was begun", examples=["203.0.113.9"])
    user_agent: str = Field(description="what it was begun with, as that says of itself", examples=["curl/8.5.0"])
    current: bool = Field(description="whether it is the one that this request was made with")
    created_at: Timestamp = Field(description="when it was begun")
    renewed_at: Timestamp = Field(description="when it last got tokens")
    expires_at: Timestamp = Field(description="when it ends unless it is renewed")
    ends_at: Timestamp | None = Field(description="when it ends in any case; null: as long as it is renewed")
