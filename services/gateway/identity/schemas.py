"""Bodies of sign-in."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.http.problems import Problem


class TokenAnswer(BaseModel):
    access_token: str = Field(
        description="send it as `Authorization: Bearer …`",
        examples=["eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl"],
    )
    token_type: Literal["Bearer"] = Field(default="Bearer", description="how it is sent", examples=["Bearer"])
    expires_in: int = Field(description="seconds that the access token is good for", examples=[3600])
    refresh_token: str | None = Field(
        default=None,
        examples=["bW9vcmFnZS1leGFtcGxlLXJlZnJlc2gtdG9rZW4"],
        description="gives the next pair of tokens, once; not there for client credentials, which are good again",
        exclude_if=lambda token: token is None,
    )


class OAuthProblem(Problem):
    """A problem document that an OAuth client understands too (RFC 6749, 5.2)."""

    error: str | None = Field(
        default=None,
        description="`code`, as OAuth calls it; missing where the body could not be read as a form",
        examples=["invalid_grant"],
    )
    error_description: str | None = Field(
        default=None, description="`detail`, as OAuth calls it", examples=["The user name or the password is wrong."]
    )


class KeySet(BaseModel):
    """RFC 7517."""

    keys: list[dict[str, Any]] = Field(
        description="public keys (JWK); `kid` says which one has signed a token",
        examples=[[{"kid": "1", "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": "…", "y": "…"}]],
    )
