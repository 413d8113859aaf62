"""Bodies of users."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.identity.domain import LONGEST_PASSWORD
from shared.http import Body, Timestamp
from shared.http.schemas import Text

UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=63),
    Field(description="lower-case letters, digits, '.', '_' and '-'; for good", examples=["ana"]),
]

Email = Annotated[
    str,
    StringConstraints(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$", max_length=320),
    Field(description="unique among users", examples=["ana@example.com"]),
]

# Length is what counts (NIST SP 800-63B); rules about kinds of characters make passwords worse.
Password = Annotated[
    str,
    StringConstraints(min_length=8, max_length=LONGEST_PASSWORD),
    Field(json_schema_extra={"format": "password"}),
]

DisplayName = Annotated[Text, StringConstraints(max_length=200), Field(examples=["Ana Pereira"])]


class GroupPermission(BaseModel):
    group: str = Field(examples=["risk"])
    permission: str = Field(description="`read`, `edit` or `manage`; each holds the ones before", examples=["edit"])


class Me(BaseModel):
    user: str = Field(examples=["ana"])
    display_name: str
    email: str | None
    admin: bool = Field(description="may everything, and manages groups, quotas and instance types")
    groups: list[GroupPermission]


class UserView(BaseModel):
    user: str = Field(examples=["ana"])
    display_name: str
    email: str | None
    admin: bool
    disabled: bool = Field(description="can neither sign in nor use an access token")
    created_at: Timestamp
    updated_at: Timestamp


class NewUserView(UserView):
    password: str | None = Field(description="the generated password, shown this once; null if you gave one")


class NewUser(Body):
    user: UserName
    display_name: DisplayName = ""
    email: Email | None = None
    admin: bool = False
    password: Password | None = Field(default=None, description="without it one is made and shown once")


class UserChange(Body):
    """What is absent stays; null clears `email`."""

    display_name: DisplayName | None = None
    email: Email | None = None
    admin: bool | None = None
    disabled: bool | None = Field(default=None, description="true also ends all sign-ins of the user")
    password: Password | None = Field(default=None, description="a new one; ends all sign-ins of the user")


class PasswordChange(Body):
    current: Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)] = Field(
        json_schema_extra={"format": "password"}
    )
    new: Password
