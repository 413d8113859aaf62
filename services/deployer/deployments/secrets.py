"""Secret values of a version (variables, pull secret): sealed before they reach a row, opened only for a replica."""

from base64 import b64decode, b64encode

from services.deployer.deployments.domain import SealedValue
from shared.secrets import Tampered, Vault

__all__ = ["EnvVault"]

_PURPOSE = "environment"


class EnvVault:
    """Seals and opens them under the platform's root key."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, value: str, *, standing: str | SealedValue | None = None) -> SealedValue:
        """What stands is kept if it is the same secret, so that applying a document twice changes nothing."""
        if isinstance(standing, dict) and self._holds(standing, value):
            return standing
        return {"sealed": b64encode(self._vault.seal(value.encode(), purpose=_PURPOSE)).decode()}

    def open(self, value: str | SealedValue) -> str:
        if isinstance(value, str):
            return value
        return self._vault.open(b64decode(value["sealed"]), purpose=_PURPOSE).decode()

    def _holds(self, standing: SealedValue, value: str) -> bool:
        """What does not open any more is replaced like any other value."""
        try:
            return self.open(standing) == value
        except (Tampered, ValueError):
            return False

    def nonce(self, *, about: str) -> str:
        """For a template with a secret in it: its digest must not let anyone who reads it try out guesses."""
        return self._vault.sign(about, purpose="template")[:32]
