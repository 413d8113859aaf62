"""The chain: each entry's hash stands on the one before, and is keyed.

Whoever can write the table but has not MOORAGE_SECRET_KEY can make no hash, so an entry that was altered, removed,
added or moved shows. The end of the chain alone can be cut off without a trace in it: keep a head (position and hash;
the gateway logs each) elsewhere, and have it looked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.secrets import Vault

_PURPOSE = "audit"


@dataclass(frozen=True)
class Head:
    """Where the chain ends, or a place in it."""

    position: int
    hash: str

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Raises ValueError."""
        position, _, digest = text.partition(":")
        return cls(int(position), digest)


BEGINNING = Head(0, "")


@dataclass(frozen=True)
class Sealed:
    """An entry as the chain has it: `line` is all of it, as PostgreSQL renders it."""

    position: int
    hash: str
    line: str


class Broken(Exception):
    """The chain does not hold; the text says where and how."""


def seal(vault: Vault, head: Head, lines: Iterable[str]) -> Iterator[Head]:
    """The head after each of `lines`."""
    for line in lines:
        head = Head(head.position + 1, vault.sign(f"{head}\n{line}", purpose=_PURPOSE))
        yield head


def verify(vault: Vault, head: Head, entries: Iterable[Sealed]) -> Head:
    """The head after `entries`, in the order of their positions. Raises Broken."""
    for entry in entries:
        if entry.position != head.position + 1:
            raise Broken(f"after position {head.position} comes {entry.position}: what was between has been removed")
        if not vault.verify(f"{head}\n{entry.line}", entry.hash, purpose=_PURPOSE):
            raise Broken(
                f"position {entry.position} was altered or added, or was sealed under another MOORAGE_SECRET_KEY"
            )
        head = Head(entry.position, entry.hash)
    return head
