"""What is secret at rest: sealing (AES-256-GCM) and signing (HMAC-SHA-256) under keys derived from one root key.

Each purpose has a key of its own (HKDF with the purpose as info), so that a value sealed for one cannot be opened as
another. Passwords and tokens are not here: those are hashed where they are checked.
"""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class Tampered(Exception):
    """A sealed value was altered, or sealed under another key or purpose."""


class Vault:
    """Seals and signs for named purposes under one 32-byte root key."""

    def __init__(self, root_key: bytes) -> None:
        self._root_key = root_key
        self._keys: dict[str, bytes] = {}

    def seal(self, value: bytes, *, purpose: str) -> bytes:
        """Encrypt `value`; what comes back holds its own nonce and is safe to store."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(purpose)).encrypt(nonce, value, purpose.encode())

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """Decrypt what `seal` made for the same purpose. Raises Tampered."""
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(self._key(purpose)).decrypt(nonce, body, purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise Tampered(f"a value sealed for {purpose} does not open") from error

    def sign(self, message: str, *, purpose: str) -> str:
        """An HMAC over `message`, in hexadecimal."""
        return hmac.new(self._key(purpose), message.encode(), hashlib.sha256).hexdigest()

    def verify(self, message: str, signature: str, *, purpose: str) -> bool:
        return hmac.compare_digest(self.sign(message, purpose=purpose).encode(), signature.encode())

    def _key(self, purpose: str) -> bytes:
        if purpose not in self._keys:
            derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"moorage/{purpose}".encode())
            self._keys[purpose] = derived.derive(self._root_key)
        return self._keys[purpose]
