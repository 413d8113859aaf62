"""Pure rules of sign-ins: where one comes from, and proof of who asked for a code (PKCE)."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.1


@dataclass(frozen=True)
class Origin:
    """Of the request that began a sign-in, for its user to know it by."""

    address: str
    user_agent: str


def challenge_of(verifier: str) -> str:
    """RFC 7636's S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def is_verifier_of(verifier: str, challenge: str) -> bool:
    return _VERIFIER.fullmatch(verifier) is not None and hmac.compare_digest(challenge_of(verifier), challenge)
