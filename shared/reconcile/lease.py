"""Leases on keys, in PostgreSQL, with a fencing token.

A process that loses its lease (it hung, the network was cut) may still be about to write; `Fence.check` inside the
writing transaction, or `FENCED` in the writing statement, makes that write fail, so the owner of a newer token is never
overwritten.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import Direct
from shared.schema import Lease

FENCED = "fence AS (SELECT token FROM leases WHERE name = $1 AND token = $2 FOR SHARE)"
"""For a statement whose first two arguments are the fence's: the claim is held if this has a row."""

_CLAIM = """
    INSERT INTO leases AS l (name, token, owner, expires_at)
    VALUES ($1, nextval('lease_tokens'), $2, now() + $3::interval)
    ON CONFLICT (name) DO UPDATE SET token = excluded.token, owner = excluded.owner, expires_at = excluded.expires_at
    WHERE l.expires_at < now() OR l.owner = excluded.owner
    RETURNING token
"""
_EXTEND = "UPDATE leases SET expires_at = now() + $3::interval WHERE name = $1 AND token = $2 RETURNING token"
_RELEASE = "UPDATE leases SET expires_at = now() - interval '1 second' WHERE name = $1 AND token = $2"


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

    def __init__(self, direct: Direct, *, owner: str, ttl: timedelta = timedelta(seconds=15)) -> None:
        self._direct = direct
        self._owner = owner
        self.ttl = ttl

    async def claim(self, name: str) -> Fence | None:
        """Take the lease if nobody else holds it."""
        claimed = await self._direct.first(_CLAIM, name, self._owner, self.ttl)
        return Fence(name, claimed.token) if claimed is not None else None

    async def extend(self, fence: Fence) -> None:
        """Raises LeaseLost."""
        if await self._direct.first(_EXTEND, fence.name, fence.token, self.ttl) is None:
            raise LeaseLost(fence.name)

    async def release(self, fence: Fence) -> None:
        """Let others claim at once."""
        await self._direct.fetch(_RELEASE, fence.name, fence.token)
