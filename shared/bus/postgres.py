"""The bus over PostgreSQL: for one machine, and wherever no broker is wanted.

A topic is a table of messages in a fixed number of partitions by key. A consumer leases a partition that has news,
handles a batch, and moves the cursor under the lease's fence, so two members never work on one key at once. NOTIFY only
wakes; a poll finds what a lost one left. Messages are kept for `retention`, whether or not they were consumed.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import aliased

from shared.bus import BusUnavailable, DeadLetter, Handler, Message
from shared.bus.delivery import deliver
from shared.bus.lag import measured
from shared.database import HINTS, Hints, is_disconnect
from shared.schema import BusCursor, BusMessage
from shared.schema import DeadLetter as DeadLetterRow
from shared.telemetry import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ARRIVED = "bus"
"""The kind of hint that says: messages on this topic."""

PARTITIONS = 8
"""Never change it: a key would move to another partition while messages of it still wait in the old one."""

_LOCK = 0x627573  # "bus": one publisher at a time, so that offsets have no gaps and none is committed late

# The lock is taken by a statement of its own before this one, which must see what its last holder committed.
_PUBLISH = text(
    """
    WITH given AS (
        SELECT DISTINCT ON (topic, event_id, only_for) *
        FROM ROWS FROM (
            jsonb_to_recordset(:messages)
            AS (topic text, key text, partition smallint, event_id text, event jsonb, only_for text)
        ) WITH ORDINALITY AS message (topic, key, partition, event_id, event, only_for, position)
        ORDER BY topic, event_id, only_for, position
    ), fresh AS (
        SELECT *, row_number() OVER (PARTITION BY topic ORDER BY position)
            + coalesce((SELECT max(b."offset") FROM bus_messages b WHERE b.topic = given.topic), 0) AS "offset"
        FROM given
        WHERE only_for IS NOT NULL OR NOT EXISTS (
            SELECT FROM bus_messages b
            WHERE b.topic = given.topic AND b.event_id = given.event_id AND b.only_for IS NULL
        )
    ), stored AS (
        INSERT INTO bus_messages (topic, "offset", partition, key, event_id, event, only_for)
        SELECT topic, "offset", partition, key, event_id, event, only_for FROM fresh
        RETURNING topic
    )
    SELECT pg_notify(:channel, :kind || ' ' || topic) FROM (SELECT DISTINCT topic FROM stored) AS topics
    """
).bindparams(bindparam("messages", type_=JSONB))


class _LeaseLost(Exception):
    """Another member has the partition now."""


@dataclass
class _Claim:
    """A partition that this member may work on until the lease ends."""

    consumer: str
    topic: str
    partition: int
    offset: int
    fence: int
    held_since: float = field(default_factory=time.monotonic)

    @property
    def is_held(self) -> ColumnElement[bool]:
        return and_(
            BusCursor.consumer == self.consumer,
            BusCursor.topic == self.topic,
            BusCursor.partition == self.partition,
            BusCursor.fence == self.fence,
        )


class PostgresBus:
    """`lease` bounds how long a dead member holds a partition; `attempts` how often a message is tried."""

    def __init__(
        self,
        engine: AsyncEngine,
        hints: Hints,
        *,
        lease: timedelta = timedelta(seconds=15),
        poll: float = 1.0,
        batch: int = 100,
        attempts: int = 5,
        retention: timedelta = timedelta(days=7),
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._hints = hints
        self._lease = lease
        self._poll = poll
        self._batch = batch
        self._attempts = attempts
        self._retention = retention

    async def publish(self, messages: Sequence[Message]) -> None:
        given = [
            {
                "topic": message.topic,
                "key": message.key,
                "partition": zlib.crc32(message.key.encode()) % PARTITIONS,
                "event_id": message.event.id,
                "event": message.event.model_dump(mode="json", exclude_none=True),
                "only_for": message.only_for,
            }
            for message in messages
        ]
        with _unavailable():
            async with self._engine.begin() as connection:
                await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
                await connection.execute(_PUBLISH, {"messages": given, "channel": HINTS, "kind": ARRIVED})

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        arrived = asyncio.Event()
        end = self._hints.listen(
            lambda kind, topic: arrived.set() if not kind or (kind == ARRIVED and topic in topics) else None
        )
        try:
            await self._patiently(self._join, consumer, topics)
            async with measured(consumer, lambda: self.lag(consumer, topics)):
                while True:
                    arrived.clear()
                    while claim := await self._patiently(self._claim, consumer, topics):
                        await self._work(claim, handler)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll):
                            await arrived.wait()
        finally:
            end()

    async def lag(self, consumer: str, topics: Sequence[str]) -> int:
        waiting = select(func.count()).select_from(BusMessage).join(BusCursor, _news())
        waiting = waiting.where(BusCursor.consumer == consumer, BusCursor.topic.in_(topics))
        with _unavailable():
            async with self._single.connect() as connection:
                return int((await connection.execute(waiting)).scalar_one())

    async def dead_letters(self, *, limit: int = 1000) -> Sequence[DeadLetter]:
        oldest = select(DeadLetterRow).order_by(DeadLetterRow.id).limit(limit)
        with _unavailable():
            async with AsyncSession(self._single) as session:
                rows = (await session.execute(oldest)).scalars().all()
        return [
            DeadLetter(
                position=row.id,
                consumer=row.consumer,
                topic=row.topic,
                key=row.key,
                event=row.event,
                cause=row.cause,
                at=row.at,
            )
            for row in rows
        ]

    async def settle(self, letters: Sequence[DeadLetter]) -> None:
        positions = [letter.position for letter in letters]
        with _unavailable():
            async with self._single.connect() as connection:
                await connection.execute(delete(DeadLetterRow).where(DeadLetterRow.id.in_(positions)))

    async def check(self) -> None:
        """The bus is the database, which whoever asks has asked already."""

    async def close(self) -> None:
        """The engine is not ours."""

    def chores(self) -> Sequence[Delete]:
        """The messages older than the retention go, but the last of each topic, which holds the offset."""
        newer = aliased(BusMessage)
        superseded = exists().where(newer.topic == BusMessage.topic, newer.offset > BusMessage.offset)
        return [delete(BusMessage).where(BusMessage.at < func.now() - self._retention, superseded)]

    async def _join(self, consumer: str, topics: Sequence[str]) -> None:
        rows = [
            {"consumer": consumer, "topic": topic, "partition": partition}
            for topic in topics
            for partition in range(PARTITIONS)
        ]
        async with self._single.connect() as connection:
            await connection.execute(upsert(BusCursor).values(rows).on_conflict_do_nothing())

    async def _claim(self, consumer: str, topics: Sequence[str]) -> _Claim | None:
        """Lease a partition that has news and that nobody works on; the one that was left alone longest."""
        picked = (
            select(BusCursor.topic, BusCursor.partition)
            .where(
                BusCursor.consumer == consumer,
                BusCursor.topic.in_(topics),
                or_(BusCursor.leased_until.is_(None), BusCursor.leased_until <= func.now()),
                exists().where(_news()),
            )
            .order_by(BusCursor.leased_until.asc().nulls_first())
            .limit(1)
            .with_for_update(skip_locked=True)
            .cte("picked")
        )
        statement = (
            update(BusCursor)
            .where(
                BusCursor.consumer == consumer,
                BusCursor.topic == picked.c.topic,
                BusCursor.partition == picked.c.partition,
            )
            .values(fence=BusCursor.fence + 1, leased_until=func.now() + self._lease)
            .returning(BusCursor.topic, BusCursor.partition, BusCursor.offset, BusCursor.fence)
        )
        started = time.monotonic()
        async with self._single.connect() as connection:
            row = (await connection.execute(statement)).first()
        return _Claim(consumer, *row, held_since=started) if row else None

    async def _work(self, claim: _Claim, handler: Handler) -> None:
        offset = claim.offset
        try:
            for message in await self._patiently(self._read, claim):
                if message.only_for not in (None, claim.consumer):
                    offset = message.offset
                    continue
                cause = await deliver(
                    message.event,
                    handler,
                    consumer=claim.consumer,
                    attempts=self._attempts,
                    limit=self._lease.total_seconds() / 2,
                    hold=lambda: self._patiently(self._extend, claim),
                )
                if cause is not None:
                    await self._patiently(self._bury, claim, message, cause)
                offset = message.offset
            await self._patiently(self._release, claim, offset)
        except _LeaseLost:
            return
        except BaseException:
            # Once, and not for long, since we may be stopping: else the lease runs out and the rest comes again.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._release(claim, offset)
            raise

    async def _read(self, claim: _Claim) -> Sequence[Row[Any]]:
        statement = (
            select(BusMessage.offset, BusMessage.key, BusMessage.event, BusMessage.only_for)
            .where(
                BusMessage.topic == claim.topic,
                BusMessage.partition == claim.partition,
                BusMessage.offset > claim.offset,
            )
            .order_by(BusMessage.offset)
            .limit(self._batch)
        )
        async with self._single.connect() as connection:
            return (await connection.execute(statement)).all()

    async def _extend(self, claim: _Claim) -> None:
        """See to it that the lease outlasts one attempt. Raises _LeaseLost."""
        now = time.monotonic()
        if now - claim.held_since < self._lease.total_seconds() / 3:
            return
        statement = update(BusCursor).where(claim.is_held).values(leased_until=func.now() + self._lease)
        async with self._single.connect() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise _LeaseLost
        claim.held_since = now

    async def _release(self, claim: _Claim, offset: int) -> None:
        statement = update(BusCursor).where(claim.is_held).values(offset=offset, leased_until=func.now())
        async with self._single.connect() as connection:
            await connection.execute(statement)

    async def _bury(self, claim: _Claim, message: Row[Any], cause: str) -> None:
        log.error("bus.dead_letter", consumer=claim.consumer, event_id=message.event.get("id"), cause=cause)
        letter = {"consumer": claim.consumer, "topic": claim.topic, "key": message.key, "event": message.event}
        async with self._engine.begin() as connection:
            moved = update(BusCursor).where(claim.is_held).values(offset=message.offset)
            if (await connection.execute(moved)).rowcount == 0:
                raise _LeaseLost
            await connection.execute(insert(DeadLetterRow).values(**letter, cause=cause))

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


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """The database being away is BusUnavailable here."""
    try:
        yield
    except Exception as error:
        if is_disconnect(error):
            raise BusUnavailable(str(error)) from error
        raise


def _news() -> ColumnElement[bool]:
    return and_(
        BusMessage.topic == BusCursor.topic,
        BusMessage.partition == BusCursor.partition,
        BusMessage.offset > BusCursor.offset,
    )
