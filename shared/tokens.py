"""Access tokens: ES256 JWTs. The only importer of python-jose.

The algorithm is pinned on both sides, so neither `none` nor HMAC with a public key passes. A verifier knows the public
keys from the database (the gateway writes them). It reads them again when it meets an unknown key id, though never
more than ten times a second, so that made-up ids cost little, and once a minute, so that a key that was withdrawn is
refused.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

from shared.errors import InvalidToken

ALGORITHM = "ES256"
ISSUER = "moorage"
AUDIENCE = "moorage"
_LONGEST = 2048  # characters: ours have about 400
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # the library lets more pass
_REMEMBERED = 4096  # verified tokens kept in memory; verifying one costs about 0.2 ms of CPU
_REQUIRED = ("require_aud", "require_iss", "require_sub", "require_iat", "require_exp")
_READ_AFTER = 0.1
_KNOWN_FOR = 60.0
_LEEWAY = 5  # seconds that the clocks of two machines may differ

LoadKeys = Callable[[], Awaitable[Mapping[str, dict[str, Any]]]]
"""Reads the public keys: key id → JWK."""


@dataclass(frozen=True)
class KeyPair:
    """`private_pem` signs and is secret; `public_jwk` verifies and is published."""

    kid: str
    private_pem: bytes
    public_jwk: dict[str, Any]


def generate_key_pair(kid: str) -> KeyPair:
    private = generate_private_key(SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = jwk.construct(pem.decode(), ALGORITHM).public_key().to_dict()
    return KeyPair(kid=kid, private_pem=pem, public_jwk={**public, "kid": kid, "use": "sig", "alg": ALGORITHM})


def issue(key: KeyPair, *, subject: str, now: float, lifetime: int, token_id: str) -> str:
    """An access token for `subject`, good for `lifetime` seconds."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": int(now),
        "exp": int(now) + lifetime,
        "jti": token_id,
    }
    token: str = jwt.encode(claims, key.private_pem.decode(), algorithm=ALGORITHM, headers={"kid": key.kid})
    return token


class Verifier:
    """Checks access tokens against the published keys."""

    def __init__(self, load_keys: LoadKeys) -> None:
        self._load_keys = load_keys
        self._published: Mapping[str, dict[str, Any]] = {}
        self._keys: dict[str, Key] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._remembered: dict[str, dict[str, Any]] = {}

    async def verify(self, token: str) -> dict[str, Any]:
        """The token's claims. Raises InvalidToken with what to do."""
        if time.monotonic() - self._loaded_at > _KNOWN_FOR:
            await self._load()
        claims = self._remembered.get(token)
        if claims is None:
            claims = await self._check(token)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[token] = claims
        if claims["exp"] + _LEEWAY < time.time():
            del self._remembered[token]
            raise InvalidToken("The access token has expired; get a new one with your refresh token.")
        return claims

    async def _check(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST or not _COMPACT.fullmatch(token):
            raise InvalidToken("The access token is not one of ours; sign in.")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except JOSEError as error:
            raise _not_valid() from error
        key = await self._key(kid)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "leeway": _LEEWAY,
                    **{f"require_{name}": True for name in ("aud", "iss", "sub", "iat", "exp")},
                },
            )
        except (JOSEError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            # Whatever a forged token provokes inside the library, the caller is simply not known.
            raise _not_valid() from error
        return claims

    async def _key(self, kid: object) -> Key:
        if not isinstance(kid, str):
            raise InvalidToken("The access token names no key.")
        if kid not in self._keys:
            await self._load()
        if kid not in self._keys:
            raise InvalidToken("The access token was signed with a key that is not ours; sign in again.")
        return self._keys[kid]

    async def _load(self) -> None:
        """Know all keys that were published when this was called; callers at the same time share one reading."""
        called_at = time.monotonic()
        async with self._loading:
            if self._loaded_at >= called_at:
                return
            await asyncio.sleep(max(0.0, self._loaded_at + _READ_AFTER - time.monotonic()))
            reading_at = time.monotonic()
            published = await self._load_keys()
            if published != self._published:
                self._keys = {kid: jwk.construct(public, ALGORITHM) for kid, public in published.items()}
                self._published = published
                self._remembered.clear()
            self._loaded_at = reading_at


def _not_valid() -> InvalidToken:
    return InvalidToken("The access token is not valid; sign in again.")
