"""Signed JSON Web Tokens: signing and verifying one. The only importer of python-jose.

Which algorithms are good says whoever verifies, never the token; so neither `none` nor HMAC with a public key passes.
Whatever a forged token provokes inside the library, it is `NotGood`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jose import jwk, jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

__all__ = ["Claims", "Key", "NotGood", "header_of", "key_of", "public_jwk", "sign", "verify"]

Claims = dict[str, Any]

LEEWAY = 5  # seconds that the clocks of two machines may differ

_LONGEST = 16_384  # characters
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # the library lets more pass
_WRONG = (JOSEError, ValueError, TypeError, AttributeError, KeyError, RecursionError)


class NotGood(Exception):
    """It is no token, nobody's whom we know, or not good any more."""


def sign(claims: Mapping[str, Any], private_pem: bytes, *, algorithm: str, kid: str) -> str:
    token: str = jwt.encode(dict(claims), private_pem.decode(), algorithm=algorithm, headers={"kid": kid})
    return token


def public_jwk(private_pem: bytes, algorithm: str) -> Claims:
    """The public half of a private key (RFC 7517)."""
    public: Claims = jwk.construct(private_pem.decode(), algorithm).public_key().to_dict()
    return {**public, "alg": algorithm}


def key_of(public_jwk: Mapping[str, Any], algorithm: str) -> Key:
    """Raises NotGood for a key that is not of that algorithm."""
    try:
        return jwk.construct(dict(public_jwk), algorithm)
    except _WRONG as error:
        raise NotGood("the key does not fit its algorithm") from error


def header_of(token: str, *, longest: int = _LONGEST) -> Claims:
    """What the token says of itself, which proves nothing. Raises NotGood."""
    if len(token) > longest or not _COMPACT.fullmatch(token):
        raise NotGood("it does not look like a token")
    try:
        header: Claims = jwt.get_unverified_header(token)
    except _WRONG as error:
        raise NotGood("its header does not parse") from error
    return header


def verify(
    token: str,
    key: Key,
    *,
    algorithms: Collection[str],
    audience: str,
    issuer: str,
    required: Collection[str] = (),
    access_token: str | None = None,
) -> Claims:
    """The claims of a token that is signed with `key`, for `audience`, by `issuer`, and good now. Raises NotGood.

    `aud`, `iss`, `sub`, `iat` and `exp` have to be there, and what is `required`. If the token was given together with
    `access_token` and names that (`at_hash`), it has to be the same.
    """
    options = {"leeway": LEEWAY, **{f"require_{name}": True for name in ("aud", "iss", "sub", "iat", "exp")}}
    try:
        claims: Claims = jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            audience=audience,
            issuer=issuer,
            access_token=access_token,
            options=options,
        )
    except _WRONG as error:
        raise NotGood(str(error)) from error
    if lacking := sorted(name for name in required if not isinstance(claims.get(name), str)):
        raise NotGood(f"it lacks {', '.join(lacking)}")
    return claims
