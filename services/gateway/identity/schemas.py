"""Bodies of sign-in."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.http.problems import Problem


class TokenAnswer(BaseModel):
    access_token: str = Field(description="send it as `Authorization: Bearer …`")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # OAuth's word for the kind
    expires_in: int = Field(description="seconds that the access token is good for", examples=[3600])
    refresh_token: str | None = Field(
        default=None,
        description="gives the next pair of tokens, once; not there for client credentials, which are good again",
        exclude_if=lambda token: token is None,
    )


class OAuthProblem(Problem):
    """A problem document that an OAuth client understands too (RFC 6749, 5.2)."""

    error: str | None = Field(
        default=None, description="missing where the body could not be read as a form", examples=["invalid_grant"]
    )
    error_description: str | None = None


class KeySet(BaseModel):
    """RFC 7517."""

    keys: list[dict[str, Any]]
