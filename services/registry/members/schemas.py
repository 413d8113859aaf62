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
    user: str = Field(examples=["ana"])
    permission: PermissionName
    source: str | None = Field(
        description="the identity provider whose claims made the user a member; null: a manager did", examples=["corp"]
    )
    created_at: Timestamp
    updated_at: Timestamp
