"""Access tokens: ES256 JWTs that name a user and the sign-in that they came of.

A verifier knows the public keys from the database (the gateway writes them). It reads them again when it meets an
unknown key id, though never more than ten times a second, so that made-up ids cost little, and once a minute, so that a
key that was withdrawn is refused. Left out: whether the sign-in still goes on, which is read with each request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared import jwt
from shared.errors import InvalidToken

ALGORITHM = "ES256"
ISSUER = "moorage"
AUDIENCE = "moorage"
_LONGEST = 2048  # characters: ours have about 450
_REMEMBERED = 4096  # verified tokens kept in memory; verifying one costs about 0.2 ms of CPU
_READ_AFTER = 0.1
_KNOWN_FOR = 60.0

LoadKeys = Callable[[], Awaitable[Mapping[str, dict[str, Any]]]]
"""Reads the public keys: key id → JWK."""


@dataclass(frozen=True)
class KeyPair:
    """`private_pem` signs and is secret; `public_jwk` verifies and is published."""

    kid: str
    private_pem: bytes
    public_jwk: dict[str, Any]


@dataclass(frozen=True)
class Access:
    """What a good access token says. `expires_at` is in seconds since 1970."""

    user: str
    sign_in: UUID
    expires_at: int


def generate_key_pair(kid: str) -> KeyPair:
    private = generate_private_key(SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(kid=kid, private_pem=pem, public_jwk={**jwt.public_jwk(pem, ALGORITHM), "kid": kid, "use": "sig"})


def issue(key: KeyPair, *, user: str, sign_in: UUID, now: float, until: float) -> str:
    """An access token that is good until then, or until the sign-in ends. Times are seconds since 1970."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "sid": str(sign_in),
        "iat": int(now),
        "exp": int(until),
        "jti": uuid4().hex,
    }
    return jwt.sign(claims, key.private_pem, algorithm=ALGORITHM, kid=key.kid)


class Verifier:
    """Checks access tokens against the published keys."""

    def __init__(self, load_keys: LoadKeys) -> None:
        self._load_keys = load_keys
        self._published: Mapping[str, dict[str, Any]] = {}
        self._keys: dict[str, jwt.Key] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._remembered: dict[str, Access] = {}

    async def verify(self, token: str) -> Access:
        """Raises InvalidToken with what to do."""
        if time.monotonic() - self._loaded_at > _KNOWN_FOR:
            await self._load()
        access = self._remembered.get(token)
        if access is None:
            access = await self._check(token)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[token] = access
        if access.expires_at + jwt.LEEWAY < time.time():
            del self._remembered[token]
            raise InvalidToken("The access token has expired; get a new one with your refresh token.")
        return access

    async def _check(self, token: str) -> Access:
        try:
            kid = jwt.header_of(token, longest=_LONGEST).get("kid")
            key = await self._key(kid)
            claims = jwt.verify(
                token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, required=["sub", "sid"]
            )
            return Access(user=claims["sub"], sign_in=UUID(claims["sid"]), expires_at=claims["exp"])
        except (jwt.NotGood, ValueError) as error:
            raise InvalidToken("The access token is not valid; sign in again.") from error

    async def _key(self, kid: object) -> jwt.Key:
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
                self._keys = {kid: jwt.key_of(public, ALGORITHM) for kid, public in published.items()}
                self._published = published
                self._remembered.clear()
            self._loaded_at = reading_at
