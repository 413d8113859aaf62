"""The two hashes of uploaded bytes: SHA-256 is their name everywhere, by BLAKE3 pulls are checked.

Both tell as surely whether bytes are what was uploaded. SHA-256 of a pull would take longer than all the rest of it.
"""

import hashlib
from typing import Protocol

from blake3 import blake3

from shared.schema import Blob

__all__ = ["Check", "Hashes", "check_of"]


class Hashes:
    """Of what has been given to it so far."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        self._blake3.update(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    @property
    def blake3(self) -> str:
        return self._blake3.hexdigest()


class Check(Protocol):
    """Whether all that was given to it is what was uploaded."""

    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


def check_of(blob: Blob) -> tuple[Check, str]:
    """What to give its bytes to, and the hex that it is to come to."""
    if blob.blake3 is None:
        return hashlib.sha256(), blob.digest.partition(":")[2]
    return blake3(), blob.blake3
