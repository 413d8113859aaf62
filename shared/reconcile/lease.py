"""Leases on keys, in PostgreSQL, with a fencing token.

A process that loses its lease (it hung, the network was cut) may still be about to write; `Fence.check` inside the
writing transaction makes that write fail, so the owner of a newer token is never overwritten.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Update, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import Sessions
from shared.schema import Lease
from shared.schema.work import LEASE_TOKENS


class LeaseLost(Exception):
    """Another process holds the lease now; what was found out must not be written."""


@dataclass(frozen=True)
class Fence:
    """Proof of a claim."""

    name: str
    token: int

    async def check(self, session: AsyncSession) -> None:
        """Hold the claim until the session's transaction ends. Raises LeaseLost."""
        statement = select(Lease.token).where(Lease.name == self.name, Lease.token == self.token)
        if (await session.execute(statement.with_for_update(read=True))).first() is None:
            raise LeaseLost(self.name)


class Leases:
    """Claims for one `owner`, each good for `ttl` unless extended."""

    def __init__(self, sessions: Sessions, *, owner: str, ttl: timedelta = timedelta(seconds=15)) -> None:
        self._sessions = sessions
        self._owner = owner
        self.ttl = ttl

    async def claim(self, name: str) -> Fence | None:
        """Take the lease if nobody else holds it."""
        until = func.now() + self.ttl
        token = LEASE_TOKENS.next_value()
        statement = insert(Lease).values(name=name, token=token, owner=self._owner, expires_at=until)
        statement = statement.on_conflict_do_update(
            index_elements=[Lease.name],
            set_={"token": token, "owner": self._owner, "expires_at": until},
            where=(Lease.expires_at < func.now()) | (Lease.owner == self._owner),
        )
        async with self._sessions.begin() as session:
            claimed = (await session.execute(statement.returning(Lease.token))).scalar_one_or_none()
        return Fence(name, claimed) if claimed is not None else None

    async def extend(self, fence: Fence) -> None:
        """Raises LeaseLost."""
        async with self._sessions.begin() as session:
            result = await session.execute(self._mine(fence).values(expires_at=func.now() + self.ttl))
        if result.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE answers with a CursorResult
            raise LeaseLost(fence.name)

    async def release(self, fence: Fence) -> None:
        """Let others claim at once."""
        async with self._sessions.begin() as session:
            await session.execute(self._mine(fence).values(expires_at=func.now() - timedelta(seconds=1)))

    def _mine(self, fence: Fence) -> Update:
        return update(Lease).where(Lease.name == fence.name, Lease.token == fence.token)
