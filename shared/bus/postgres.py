"""The bus over PostgreSQL: for one machine, and wherever no broker is wanted.

A topic is a table of messages in a fixed number of partitions by key. A consumer leases a partition that has news,
handles a batch, and moves the cursor under the lease's fence, so two members never work on one key at once. NOTIFY only
wakes; a poll finds what a lost one left. Messages are kept for `retention`.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ParamSpec, TypeVar

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import aliased

from shared.bus import BusUnavailable, Handler, Message
from shared.database import HINTS, Hints, is_disconnect
from shared.events import CloudEvent
from shared.schema import BusCursor, BusMessage, DeadLetter
from shared.telemetry import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_ARRIVED = "bus"


@dataclass(frozen=True)
class _Claim:
    """A partition that this member may work on until the lease ends."""

    topic: str
    partition: int
    offset: int
    fence: int


class PostgresBus:
    """`lease` bounds how long a dead member holds a partition; `attempts` how often a message is tried."""

    def __init__(
        self,
        engine: AsyncEngine,
        hints: Hints,
        *,
        partitions: int = 8,
        lease: timedelta = timedelta(seconds=15),
        poll: float = 1.0,
        batch: int = 100,
        attempts: int = 5,
        retention: timedelta = timedelta(days=7),
    ) -> None:
        self._engine = engine
        self._hints = hints
        self._partitions = partitions
        self._lease = lease
        self._poll = poll
        self._batch = batch
        self._attempts = attempts
        self._retention = retention

    async def publish(self, messages: Sequence[Message]) -> None:
        try:
            async with self._engine.begin() as connection:
                for topic in sorted({message.topic for message in messages}):
                    # One publisher at a time gives a topic its offsets: no gaps, and none committed late.
                    await connection.execute(select(func.pg_advisory_xact_lock(_topic_lock(topic))))
                    last = (
                        await connection.execute(
                            select(func.coalesce(func.max(BusMessage.offset), 0)).where(BusMessage.topic == topic)
                        )
                    ).scalar_one()
                    of_topic = [message for message in messages if message.topic == topic]
                    known = set(
                        (
                            await connection.execute(
                                select(BusMessage.event_id).where(
                                    BusMessage.topic == topic,
                                    BusMessage.event_id.in_([message.event.id for message in of_topic]),
                                )
                            )
                        ).scalars()
                    )
                    fresh = {m.event.id: m for m in of_topic if m.event.id not in known}
                    if fresh:
                        await connection.execute(
                            insert(BusMessage),
                            [
                                {
                                    "topic": topic,
                                    "offset": last + position,
                                    "partition": self._partition(message.key),
                                    "key": message.key,
                                    "event_id": message.event.id,
                                    "event": message.event.model_dump(mode="json"),
                                }
                                for position, message in enumerate(fresh.values(), start=1)
                            ],
                        )
                    await connection.execute(select(func.pg_notify(HINTS, f"{_ARRIVED} {topic}")))
        except Exception as error:
            if is_disconnect(error):
                raise BusUnavailable(str(error)) from error
            raise

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        arrived = asyncio.Event()
        end = self._hints.listen(
            lambda kind, topic: arrived.set() if not kind or (kind == _ARRIVED and topic in topics) else None
        )
        try:
            await self._retrying(self._join, consumer, topics)
            while True:
                arrived.clear()
                while claim := await self._retrying(self._claim, consumer, topics):
                    await self._work(consumer, claim, handler)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), self._poll)
        finally:
            end()

    async def lag(self, consumer: str) -> int:
        """Messages that `consumer` has still to handle."""
        async with self._engine.connect() as connection:
            waiting = select(func.count()).select_from(BusMessage).join(BusCursor, _news())
            return int((await connection.execute(waiting.where(BusCursor.consumer == consumer))).scalar_one())

    async def prune(self) -> int:
        """Remove messages older than the retention, but the last of each topic, which holds the offset."""
        newer = aliased(BusMessage)
        superseded = exists().where(newer.topic == BusMessage.topic, newer.offset > BusMessage.offset)
        statement = delete(BusMessage).where(BusMessage.at < func.now() - self._retention, superseded)
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).rowcount

    async def _join(self, consumer: str, topics: Sequence[str]) -> None:
        rows = [
            {"consumer": consumer, "topic": topic, "partition": partition}
            for topic in topics
            for partition in range(self._partitions)
        ]
        async with self._engine.begin() as connection:
            await connection.execute(upsert(BusCursor).values(rows).on_conflict_do_nothing())

    async def _claim(self, consumer: str, topics: Sequence[str]) -> _Claim | None:
        """Lease a partition that has news and that nobody works on."""
        async with self._engine.begin() as connection:
            row = (
                await connection.execute(
                    select(BusCursor.topic, BusCursor.partition, BusCursor.offset, BusCursor.fence)
                    .where(
                        BusCursor.consumer == consumer,
                        BusCursor.topic.in_(topics),
                        or_(BusCursor.leased_until.is_(None), BusCursor.leased_until < func.now()),
                        exists().where(_news()),
                    )
                    .limit(1)
                    .with_for_update(skip_locked=True)
                )
            ).first()
            if row is None:
                return None
            claim = _Claim(topic=row.topic, partition=row.partition, offset=row.offset, fence=row.fence + 1)
            await connection.execute(
                update(BusCursor)
                .where(_cursor(consumer, claim))
                .values(fence=claim.fence, leased_until=func.now() + self._lease)
            )
            return claim

    async def _work(self, consumer: str, claim: _Claim, handler: Handler) -> None:
        messages = await self._retrying(self._read, claim)
        offset = claim.offset
        try:
            for position, message in messages:
                if not await self._handle(consumer, claim, message, handler):
                    return  # the lease is another's now
                offset = position
        finally:
            await asyncio.shield(self._retrying(self._commit, consumer, claim, offset))

    async def _read(self, claim: _Claim) -> list[tuple[int, Message]]:
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                select(BusMessage.offset, BusMessage.key, BusMessage.event)
                .where(
                    BusMessage.topic == claim.topic,
                    BusMessage.partition == claim.partition,
                    BusMessage.offset > claim.offset,
                )
                .order_by(BusMessage.offset)
                .limit(self._batch)
            )
            return [
                (row.offset, Message(topic=claim.topic, key=row.key, event=CloudEvent.model_validate(row.event)))
                for row in rows
            ]

    async def _handle(self, consumer: str, claim: _Claim, message: Message, handler: Handler) -> bool:
        """Handle one message, with retries and at last the dead letters; False once the lease was lost."""
        for attempt in range(1, self._attempts + 1):
            if not await self._retrying(self._extend, consumer, claim):
                return False
            try:
                async with asyncio.timeout(self._lease.total_seconds() / 2):
                    await handler(message.event)
                return True
            except Exception as error:
                log.warning(
                    "bus.handler_failed",
                    consumer=consumer,
                    event_id=message.event.id,
                    attempt=attempt,
                    error=repr(error),
                )
                cause = repr(error)
            await asyncio.sleep(min(0.05 * 2**attempt, 2.0))
        await self._retrying(self._bury, consumer, message, cause)
        return True

    async def _extend(self, consumer: str, claim: _Claim) -> bool:
        async with self._engine.begin() as connection:
            result = await connection.execute(
                update(BusCursor)
                .where(_cursor(consumer, claim), BusCursor.fence == claim.fence)
                .values(leased_until=func.now() + self._lease)
            )
            return result.rowcount == 1

    async def _commit(self, consumer: str, claim: _Claim, offset: int) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(
                update(BusCursor)
                .where(_cursor(consumer, claim), BusCursor.fence == claim.fence)
                .values(offset=offset, leased_until=None)
            )

    async def _bury(self, consumer: str, message: Message, cause: str) -> None:
        log.error("bus.dead_letter", consumer=consumer, event_id=message.event.id, cause=cause)
        async with self._engine.begin() as connection:
            await connection.execute(
                insert(DeadLetter).values(
                    consumer=consumer,
                    topic=message.topic,
                    key=message.key,
                    event=message.event.model_dump(mode="json"),
                    cause=cause,
                )
            )

    async def _retrying(self, step: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one database step; wait out an outage of PostgreSQL."""
        while True:
            try:
                return await step(*args, **kwargs)
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("bus.database_away", error=str(error))
                await asyncio.sleep(0.5)

    def _partition(self, key: str) -> int:
        return zlib.crc32(key.encode()) % self._partitions


def _topic_lock(topic: str) -> int:
    return zlib.crc32(f"bus/{topic}".encode())


def _cursor(consumer: str, claim: _Claim) -> ColumnElement[bool]:
    return and_(BusCursor.consumer == consumer, BusCursor.topic == claim.topic, BusCursor.partition == claim.partition)


def _news() -> ColumnElement[bool]:
    return and_(
        BusMessage.topic == BusCursor.topic,
        BusMessage.partition == BusCursor.partition,
        BusMessage.offset > BusCursor.offset,
    )
