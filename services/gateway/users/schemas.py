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
    group: str = Field(description="the group's id", examples=["risk"])
    permission: str = Field(description="`read`, `edit` or `manage`; each holds the ones before", examples=["edit"])


class Me(BaseModel):
    user: str = Field(description="your name", examples=["ana"])
    display_name: str = Field(description="for people", examples=["Ana Pereira"])
    email: str | None = Field(description="null: none is known", examples=["ana@example.com"])
    admin: bool = Field(description="may everything, and manages groups, quotas and instance types")
    groups: list[GroupPermission] = Field(description="those that you are a member of")


class UserView(BaseModel):
    user: str = Field(description="names them for good", examples=["ana"])
    display_name: str = Field(description="for people", examples=["Ana Pereira"])
    email: str | None = Field(description="null: none is known", examples=["ana@example.com"])
    admin: bool = Field(description="whether they administer the platform")
    disabled: bool = Field(description="can neither sign in nor use an access token")
    created_at: Timestamp = Field(description="when it was made")
    updated_at: Timestamp = Field(description="when it was last changed")


class NewUserView(UserView):
    password: str | None = Field(
        description="the generated password, shown this once; null if you gave one",
        examples=["correct-horse-battery-staple"],
    )


class NewUser(Body):
    user: UserName
    display_name: DisplayName = Field(default="", description="for people", examples=["Ana Pereira"])
    email: Email | None = Field(default=None, description="unique among users", examples=["ana@example.com"])
    admin: bool = Field(default=False, description="administers the platform: may everything")
    password: Password | None = Field(default=None, description="without it one is made and shown once")


class UserChange(Body):
    """What is absent stays; null clears `email`."""

    display_name: DisplayName | None = Field(default=None, description="for people", examples=["Ana Pereira"])
    email: Email | None = Field(default=None, description="unique among users; null: none")
    admin: bool | None = Field(default=None, description="administers the platform: may everything")
    disabled: bool | None = Field(default=None, description="true also ends all sign-ins of the user")
    password: Password | None = Field(default=None, description="a new one; ends all sign-ins of the user")


class PasswordChange(Body):
    current: Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)] = Field(
        description="the password until now", examples=["an old password"], json_schema_extra={"format": "password"}
    )
    new: Password = Field(description="the one from now on", examples=["a better password"])
