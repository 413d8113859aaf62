"""A member of a consumer group: takes the partitions that have news, handles what is in them, gives them back."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ParamSpec, TypeVar

from shared.bus import Handler
from shared.bus.delivery import deliver
from shared.bus.postgres.statements import BURY, EXTEND, JOIN, RELEASE, TAKE
from shared.database import Direct, Row, is_disconnect
from shared.telemetry import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PARTITIONS = 8
"""Never change it: a key would move to another partition while messages of it still wait in the old one."""

_KEPT = 0.1
"""Seconds after which what was taken and not begun goes back: somebody else may have time for it."""


class _LeaseLost(Exception):
    """Another member has the partition now."""


@dataclass
class _Claim:
    """A partition that this member may work on until the lease ends; `offset` is how far it has come."""

    topic: str
    partition: int
    fence: int
    offset: int
    messages: list[Row] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Member:
    """Times are in seconds."""

    direct: Direct
    consumer: str
    topics: Sequence[str]
    handler: Handler
    lease: float
    batch: int
    attempts: int

    async def join(self) -> None:
        await self._patiently(self.direct.fetch, JOIN, self.consumer, list(self.topics), PARTITIONS)

    async def work(self) -> bool:
        """Handle what there is at this moment; whether there may be more. Raises nothing but what cancels it."""
        taken_at = time.monotonic()
        claims = await self._patiently(self._take)
        held = _Held(claims, since=taken_at)
        more = False
        try:
            for claim in claims:
                if claim.messages and time.monotonic() - taken_at > _KEPT and claim is not claims[0]:
                    more = True
                    break
                more |= len(claim.messages) == self.batch
                with contextlib.suppress(_LeaseLost):
                    await self._handle(claim, held)
            await self._patiently(self._release, held)
        except BaseException:
            # Once, and not for long, since we may be stopping: else the leases run out and the rest comes again.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._release(held)
            raise
        return more

    async def _take(self) -> list[_Claim]:
        lease = timedelta(seconds=self.lease)
        rows = await self.direct.fetch(TAKE, self.consumer, list(self.topics), lease, self.batch)
        claims: dict[tuple[str, int], _Claim] = {}
        for row in rows:
            claim = _Claim(row.topic, row.partition, row.fence, row.begin)
            claim = claims.setdefault((row.topic, row.partition), claim)
            if row.offset is not None:
                claim.messages.append(row)
        return list(claims.values())

    async def _handle(self, claim: _Claim, held: "_Held") -> None:
        for message in claim.messages:
            if message.only_for in (None, self.consumer):
                cause = await deliver(
                    message.event,
                    self.handler,
                    consumer=self.consumer,
                    attempts=self.attempts,
                    limit=self.lease / 2,
                    hold=lambda: self._patiently(self._hold, claim, held),
                )
                if cause is not None:
                    await self._patiently(self._bury, claim, message, cause)
            claim.offset = message.offset

    async def _hold(self, claim: _Claim, held: "_Held") -> None:
        """See to it that the leases outlast one attempt. Raises _LeaseLost for this claim."""
        now = time.monotonic()
        if now - held.since >= self.lease / 3:
            lease = timedelta(seconds=self.lease)
            kept = {tuple(row) for row in await self.direct.fetch(EXTEND, self.consumer, *held.columns(), lease)}
            held.claims = [each for each in held.claims if (each.topic, each.partition) in kept]
            held.since = now
        if claim not in held.claims:
            raise _LeaseLost

    async def _release(self, held: "_Held") -> None:
        if held.claims:
            offsets = [claim.offset for claim in held.claims]
            await self.direct.fetch(RELEASE, self.consumer, *held.columns(), offsets)

    async def _bury(self, claim: _Claim, message: Row, cause: str) -> None:
        log.error("bus.dead_letter", consumer=self.consumer, event_id=message.event.get("id"), cause=cause)
        where = (claim.topic, claim.partition, claim.fence)
        letter = (message.offset, message.key, message.event, cause)
        if not await self.direct.fetch(BURY, self.consumer, *where, *letter):
            raise _LeaseLost

    async def _patiently(self, step: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one database step; wait out an outage of PostgreSQL."""
        while True:
            try:
                return await step(*args, **kwargs)
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("bus.database_away", error=repr(error))
                await asyncio.sleep(0.5)


@dataclass
class _Held:
    """What was taken at once, and is given back at once."""

    claims: list[_Claim]
    since: float

    def columns(self) -> tuple[list[str], list[int], list[int]]:
        topics = [claim.topic for claim in self.claims]
        return topics, [claim.partition for claim in self.claims], [claim.fence for claim in self.claims]
