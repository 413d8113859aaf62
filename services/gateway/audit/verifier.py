"""Verifies the whole chain, in pieces: `python -m services.gateway verify-audit`."""

from collections.abc import Sequence

from services.gateway.audit import queries
from services.gateway.audit.domain import BEGINNING, Broken, Head, Sealed, verify
from shared.database import Sessions
from shared.secrets import Vault

_PIECE = 5000


async def verify_chain(sessions: Sessions, vault: Vault, *, known: Sequence[Head] = ()) -> Head:
    """The head of a chain that holds, and in which each of the heads `known` from elsewhere stands. Raises Broken."""
    head = BEGINNING
    expected = {each.position: each for each in known}
    while True:
        async with sessions() as session:
            entries = await queries.chain(session, after=head.position, limit=_PIECE)
        head = verify(vault, head, entries)
        for entry in entries:
            _check(entry, expected.pop(entry.position, None))
        if len(entries) < _PIECE:
            break
    if expected:
        raise Broken(f"the chain ends at position {head.position}; it went up to {max(expected)} before")
    return head


def _check(entry: Sealed, known: Head | None) -> None:
    if known is not None and known.hash != entry.hash:
        raise Broken(f"position {known.position} is not what it was: the chain was made anew from there or before")
