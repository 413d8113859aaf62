"""Gives entries their place in the chain, a batch at a time, soon after they are committed.

Writers know nothing of it and never wait for one another: an entry that is committed late just comes later. Of several
gateways one seals at a time. What is in the table without a place is due, so nothing is passed over.
"""

import asyncio

from prometheus_client import Counter
from sqlalchemy import ARRAY, BigInteger, Text, bindparam, func, select, text

from services.gateway.audit import queries
from services.gateway.audit.domain import Head, seal
from shared.database import HINTS, Sessions, is_disconnect
from shared.secrets import Vault
from shared.telemetry import get_logger

__all__ = ["SEALED", "Sealer"]

log = get_logger(__name__)

SEALED = "moorage.audit.sealed"
"""The hint that there is more of the chain; its subject is the last position."""

COUNT = Counter("moorage_audit_sealed_total", "Entries of the audit log that were sealed")

_LOCK = 0x6175646974  # "audit"
_BATCH = 2000
_SEAL = text("""
    UPDATE audit_entries SET position = given.position, hash = given.hash
    FROM unnest(:ids, :positions, :hashes) AS given (id, position, hash) WHERE audit_entries.id = given.id
""").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("positions", type_=ARRAY(BigInteger)),
    bindparam("hashes", type_=ARRAY(Text)),
)


class Sealer:
    """Seals until cancelled; `poll` is the pause when there is nothing to do (seconds)."""

    def __init__(self, sessions: Sessions, vault: Vault, *, poll: float = 0.5) -> None:
        self._sessions = sessions
        self._vault = vault
        self._poll = poll

    async def run(self) -> None:
        while True:
            try:
                while await self.seal_batch() == _BATCH:
                    pass
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("audit.database_away", error=repr(error))
            await asyncio.sleep(self._poll)

    async def seal_batch(self) -> int:
        """How many were sealed."""
        async with self._sessions.begin() as session:
            if not (await session.execute(select(func.pg_try_advisory_xact_lock(_LOCK)))).scalar():
                return 0
            # Only now: this statement sees what the last one who sealed has committed.
            due = await queries.unsealed(session, limit=_BATCH)
            if not due:
                return 0
            heads = list(seal(self._vault, await queries.head(session), (line for _, line in due)))
            await session.execute(_SEAL, _columns([id_ for id_, _ in due], heads))
            await session.execute(select(func.pg_notify(HINTS, f"{SEALED} {heads[-1].position}")))
        COUNT.inc(len(due))
        log.info("audit.sealed", head=str(heads[-1]))
        return len(due)


def _columns(ids: list[int], heads: list[Head]) -> dict[str, list[int] | list[str]]:
    return {"ids": ids, "positions": [head.position for head in heads], "hashes": [head.hash for head in heads]}
