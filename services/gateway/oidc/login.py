"""What is remembered of a sign-in while its browser is with the provider: sealed, in a cookie of that browser."""

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass

from shared.secrets import Tampered, Vault

SECONDS = 600
"""How long one may take at the provider."""

_PURPOSE = "oidc-login"


@dataclass(frozen=True)
class Program:
    """What has sent its user to sign in and is to get the tokens: where it waits, its own state, and its challenge."""

    redirect_uri: str
    state: str
    challenge: str


@dataclass(frozen=True)
class Login:
    """`state` finds the cookie again, `nonce` is to be in the ID token, `verifier` proves to the provider that we have
    begun it. Without a `program` the browser itself gets the tokens."""

    provider: str
    state: str
    nonce: str
    verifier: str
    until: float
    program: Program | None

    @classmethod
    def begun(cls, provider: str, program: Program | None) -> "Login":
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(provider, state, nonce, verifier, time.time() + SECONDS, program)

    def sealed(self, vault: Vault) -> str:
        return urlsafe_b64encode(vault.seal(json.dumps(asdict(self)).encode(), purpose=_PURPOSE)).decode()

    @classmethod
    def opened(cls, sealed: str, vault: Vault, *, state: str) -> "Login | None":
        """None for what we have not sealed, for another login's, and for one that is too old."""
        try:
            found = json.loads(vault.open(urlsafe_b64decode(sealed), purpose=_PURPOSE))
        except (Tampered, ValueError):
            return None
        program = found.pop("program")
        login = cls(**found, program=Program(**program) if program else None)
        return (
            login if hmac.compare_digest(login.state.encode(), state.encode()) and time.time() < login.until else None
        )


def cookie_of(state: str) -> str:
    """The name of its cookie: one for each login, since a browser may have several under way."""
    return f"moorage_login_{state[:8]}"
