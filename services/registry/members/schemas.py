"""Bodies of members."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.http import Body, Timestamp

PermissionName = Literal["read", "edit", "manage"]


class MemberPut(Body):
    permission: PermissionName = Field(
        description="read: see, logs, metrics; edit: deploy, register models; manage: everything in the group"
    )


class MemberView(BaseModel):
    user: str = Field(description="their name", examples=["ana"])
    permission: PermissionName = Field(
        description="what they may in the group; each holds the ones before", examples=["edit"]
    )
    source: str | None = Field(
        description="the identity provider whose claims made the user a member; null: a manager did", examples=["corp"]
    )
    created_at: Timestamp = Field(description="since when")
    updated_at: Timestamp = Field(description="when the permission was last changed")
