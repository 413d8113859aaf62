"""Errors that only the gateway raises.

BadRequest
├── OAuthError                what RFC 6749 wants answered with 400 and a member `error`
│   ├── InvalidRequest
│   ├── InvalidGrant
│   └── UnsupportedGrantType
└── LoginExpired              a browser comes back from a provider with what we do not remember
InvalidToken
└── InvalidClient             a service account's credentials are not good: 401, also with a member `error`
PermissionDenied
└── ProviderRefused           an identity provider, or what it says of a person, does not let them in
Unavailable
└── ProviderUnavailable       an identity provider is away, or answers what cannot be trusted
Conflict
└── LastAdmin                 the platform would be left without an administrator
"""

from typing import Any

from shared.errors import BadRequest, Conflict, InvalidToken, PermissionDenied, Unavailable


class OAuthError(BadRequest):
    """`error` and `error_description` are what OAuth clients read; the rest is our problem document as ever."""

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail, error=self.code, error_description=detail, **facts)


class InvalidRequest(OAuthError):
    code = "invalid_request"
    title = "The token request lacks something"


class InvalidGrant(OAuthError):
    code = "invalid_grant"
    title = "The password or refresh token is not good"
    denial = True


class UnsupportedGrantType(OAuthError):
    code = "unsupported_grant_type"
    title = "This grant type is not offered"


class InvalidClient(InvalidToken):
    code = "invalid_client"
    title = "The client credentials are not good"
    scheme = "Basic"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, error=self.code, error_description=detail)


class LoginExpired(BadRequest):
    code = "login_expired"
    title = "This sign-in is not known any more"


class ProviderRefused(PermissionDenied):
    code = "provider_refused"
    title = "The identity provider does not let you in"


class ProviderUnavailable(Unavailable):
    code = "provider_unavailable"
    title = "The identity provider is of no use at the moment"


class LastAdmin(Conflict):
    code = "last_admin"
    title = "The platform needs an administrator"
