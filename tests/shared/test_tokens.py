"""Access tokens: what we signed passes, whatever else does not, and forging costs us little."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from jose import jwt

from shared import tokens
from shared.errors import InvalidToken
from shared.tokens import KeyPair, Verifier, generate_key_pair, issue


class Published:
    """The keys as the database has them; counts how often they are read."""

    def __init__(self, *keys: KeyPair) -> None:
        self.keys = {key.kid: key.public_jwk for key in keys}
        self.read = 0

    async def __call__(self) -> Mapping[str, dict[str, Any]]:
        self.read += 1
        await asyncio.sleep(0)
        return dict(self.keys)


KEY = generate_key_pair("key-1")
NOW = time.time()
ODD_KIDS = (None, 1, [], {}, "", "../key-1", "x" * 900)
SIGN_IN = uuid4()
GOOD = {
    "iss": "moorage",
    "aud": "moorage",
    "sub": "ana",
    "sid": str(SIGN_IN),
    "iat": int(NOW),
    "exp": int(NOW) + 86_400,
}


def made(key: KeyPair = KEY, *, lifetime: float = 600) -> str:
    return issue(key, user="ana", sign_in=SIGN_IN, now=time.time(), until=time.time() + lifetime)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def refused(verifier: Verifier, token: str) -> None:
    with pytest.raises(InvalidToken):
        await verifier.verify(token)


async def test_what_we_signed_passes_again_and_again_for_one_reading_of_the_keys() -> None:
    published = Published(KEY)
    verifier, token = Verifier(published), made()
    for _ in range(100):
        access = await verifier.verify(token)
        assert (access.user, access.sign_in) == ("ana", SIGN_IN)
    assert published.read == 1


async def test_forgeries() -> None:
    verifier = Verifier(Published(KEY))
    header, claims, signature = made().split(".")
    unsigned = f"{part({'alg': 'none', 'kid': 'key-1'})}.{claims}."
    public = json.dumps(KEY.public_jwk).encode()
    hs256 = f"{part({'alg': 'HS256', 'kid': 'key-1'})}.{claims}"
    mac = base64.urlsafe_b64encode(hmac.new(public, hs256.encode(), hashlib.sha256).digest()).decode().rstrip("=")
    stranger = generate_key_pair("key-1")
    embedded = part({"alg": "ES256", "kid": "key-1", "jwk": stranger.public_jwk})
    for token in (
        unsigned,
        unsigned + signature,
        f"{hs256}.{mac}",
        made(stranger),
        f"{embedded}.{claims}.{signature}",
        f"{header}.{part({**GOOD, 'sub': 'root'})}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims}.{signature}!",  # the library would skip it
        f"{header}.{claims}.{signature}.{signature}",
        f" {header}.{claims}.{signature}",
        *(f"{part({'alg': 'ES256', 'kid': kid})}.{claims}.{signature}" for kid in ODD_KIDS),
        f"{part([])}.{claims}.{signature}",
        f"{part('x')}.{claims}.{signature}",
        f"{base64.urlsafe_b64encode(b'[' * 900).decode()}.{claims}.{signature}",
        f"{header}.{'A' * 5000}.{signature}",
        "", ".", "..", "a.b.c", "é.é.é", "\ud800.a.b", "\x00",
    ):  # fmt: skip
        await refused(verifier, token)
    assert verifier._remembered == {}


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "iat", "exp"])
async def test_every_claim_is_required_and_checked(name: str) -> None:
    verifier = Verifier(Published(KEY))
    sign = {"key": KEY.private_pem.decode(), "algorithm": "ES256", "headers": {"kid": "key-1"}}
    await verifier.verify(jwt.encode(GOOD, **sign))
    await refused(verifier, jwt.encode({k: v for k, v in GOOD.items() if k != name}, **sign))
    await refused(verifier, jwt.encode({**GOOD, name: {"sub": 7, "iat": "x", "exp": "x"}.get(name, "other")}, **sign))


async def test_expiry_counts_also_for_what_was_seen_before(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = Verifier(Published(KEY)), made(lifetime=1)
    await verifier.verify(token)
    later = time.time() + 7
    monkeypatch.setattr(tokens.time, "time", lambda: later)
    await refused(verifier, token)
    await refused(verifier, token)


async def test_a_new_key_is_known_at_once_even_while_strangers_send_made_up_ones() -> None:
    published = Published(KEY)
    verifier, new = Verifier(published), generate_key_pair("key-2")
    await verifier.verify(made())
    strange = [refused(verifier, made(generate_key_pair(f"made-up-{number}"))) for number in range(20)]
    attack = asyncio.gather(*strange)
    await asyncio.sleep(0.01)
    published.keys["key-2"] = new.public_jwk
    assert (await verifier.verify(made(new))).user == "ana"
    await attack
    assert published.read <= 4


async def test_a_withdrawn_key_is_refused_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    published = Published(KEY, generate_key_pair("key-2"))
    verifier, token = Verifier(published), made()
    await verifier.verify(token)
    del published.keys["key-1"]
    later = time.monotonic() + 61
    monkeypatch.setattr(tokens.time, "monotonic", lambda: later)
    await refused(verifier, token)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 10)
    verifier = Verifier(Published(KEY))
    for _ in range(25):
        await verifier.verify(made())
    assert len(verifier._remembered) <= 10


async def test_keys_that_cannot_be_read_are_no_reason_to_call_a_token_invalid() -> None:
    async def away() -> Mapping[str, dict[str, Any]]:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await Verifier(away).verify(made())


def test_the_published_half_holds_nothing_private() -> None:
    assert set(KEY.public_jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
