"""What the settings say of an identity provider."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from services.gateway.origins import is_loopback
from shared.access_tokens import ADMIN, ALL_GROUPS, SCOPE


def safe_url(url: str) -> str:
    """Raises ValueError unless nobody on the way can read or change what is sent there."""
    parts = urlsplit(url)
    if not parts.hostname or parts.fragment or parts.username:
        raise ValueError("is not an address")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("has to be https")
    return url


class IdentityProvider(BaseModel):
    """One OpenID Connect provider. Its redirect URI for us is `<MOORAGE_PUBLIC_URL>/api/v1/auth/callback/<name>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
    title: str = Field(default="", description="for people; the name if left out")
    issuer: Annotated[str, AfterValidator(safe_url)] = Field(description="as its discovery document says")
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = Field(default=None, description="none for a public client")
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    user_claim: str = Field(default="preferred_username", description="what a new user is named after")
    groups_claim: str = Field(default="groups", description="where roles are read; `a.b` is `b` within `a`")
    roles: dict[str, str] = Field(
        default_factory=dict,
        description="value of that claim → `<group>:<permission>` or `admin`; one `*` in a value is the group's name",
    )
    required_claims: dict[str, str] = Field(
        default_factory=dict, description="claims that whoever signs in has to have, or to hold in a list"
    )
    trusts_email: bool = Field(
        default=False,
        description="who has the verified e-mail address of a user is that user; only for a provider that is your own",
    )
    sign_in_seconds: Annotated[int, Field(ge=300, le=31_536_000)] = Field(
        default=43_200, description="when one has to sign in anew, and the claims are read again"
    )

    @field_validator("scopes")
    @classmethod
    def _openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("have to contain openid")
        return scopes

    @field_validator("name")
    @classmethod
    def _no_other_method(cls, name: str) -> str:
        if name == "password":
            raise ValueError("is another way to sign in")
        return name

    @field_validator("roles")
    @classmethod
    def _roles(cls, roles: dict[str, str]) -> dict[str, str]:
        for value, role in roles.items():
            if not re.fullmatch(SCOPE, role):
                raise ValueError(f"{role} is neither <group>:<permission> nor admin")
            if value.count("*") > 1 or role.startswith(ALL_GROUPS) != ("*" in value):
                raise ValueError(f"{value} and {role} need one * each, or none")
        return roles

    @property
    def gives_admin(self) -> bool:
        """Whether it says who is an administrator, and who is not."""
        return ADMIN in self.roles.values()
