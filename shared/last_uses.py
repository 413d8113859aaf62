"""When access tokens were last used: noted in memory with each request and written every few seconds, in one go.

Written with each request, it would make all requests of one token wait for one another.
"""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Uuid, bindparam, text

from shared.database import Sessions, is_disconnect
from shared.telemetry import get_logger

log = get_logger(__name__)

_WRITE = text("""
    UPDATE access_tokens SET last_used_at = greatest(last_used_at, used.at)
    FROM unnest(:ids, :times) AS used (id, at) WHERE access_tokens.id = used.id
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())), bindparam("times", type_=ARRAY(DateTime(timezone=True))))


class LastUses:
    def __init__(self, sessions: Sessions, *, every: float = 5.0) -> None:
        self._sessions = sessions
        self._every = every
        self._noted: dict[UUID, datetime] = {}

    def note(self, token: UUID) -> None:
        self._noted[token] = datetime.now(UTC)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.write()
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("last_uses.database_away", error=repr(error))

    async def write(self) -> None:
        if not self._noted:
            return
        # In one order everywhere, or two services could wait for each other's rows.
        noted = dict(sorted(self._noted.items()))
        async with self._sessions.begin() as session:
            await session.execute(_WRITE, {"ids": list(noted), "times": list(noted.values())})
        for token, at in noted.items():
            if self._noted.get(token) == at:
                del self._noted[token]
