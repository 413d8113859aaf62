"""Pure rules of sign-in: when signing keys are made and which one signs, what a user name is."""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote_plus

KEY_LIFE = timedelta(days=90)
"""How long a key signs."""

KEY_OVERLAP = timedelta(days=7)
"""The next key is made that long before: a gateway that is down for a while does not run out of keys."""

KEY_KEPT = timedelta(days=2)
"""How long a retired key is published: longer than any access token lives."""

LONGEST_PASSWORD = 1024  # characters; more is an attack, and is hashed for nobody

_SETTLES = timedelta(seconds=5)  # a verifier asks for new keys at most once a second

_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class KeyAge:
    kid: str
    created_at: datetime
    retires_at: datetime


def is_key_due(keys: Iterable[KeyAge], *, now: datetime) -> bool:
    """Whether a new signing key has to be made."""
    return not any(key.retires_at - now > KEY_OVERLAP for key in keys)


def signing_key(keys: Iterable[KeyAge], *, now: datetime) -> KeyAge | None:
    """The key to sign with: the newest, once the others have had time to read it."""
    newest_first = sorted((key for key in keys if key.retires_at > now), key=lambda key: key.created_at, reverse=True)
    settled = [key for key in newest_first if now - key.created_at >= _SETTLES]
    return next(iter(settled or reversed(newest_first)), None)


def is_user_name(name: str) -> bool:
    return _USER.fullmatch(name) is not None


def basic_credentials(header: str) -> tuple[str, str] | None:
    """`(client, secret)` of an Authorization header, or None. Each was form-encoded first (RFC 6749, 2.3.1)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (unquote_plus(client), unquote_plus(secret)) if colon else None
