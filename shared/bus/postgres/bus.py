"""Publishing, dead letters, lag; consuming is `member`'s."""

import asyncio
import contextlib
import zlib
from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import Delete, delete, func

from shared.bus import BusUnavailable, DeadLetter, Handler, Message
from shared.bus.lag import measured
from shared.bus.postgres.member import PARTITIONS, Member
from shared.bus.postgres.statements import DEAD_LETTERS, LAG, LOCK, PUBLISH, SETTLE
from shared.database import HINTS, Direct, Hints, is_disconnect
from shared.schema import BusMessage

ARRIVED = "bus"
"""The kind of hint that says: messages on this topic."""

_LOCK = 0x627573  # "bus": one publisher at a time, so that offsets have no gaps and none is committed late


class PostgresBus:
    """`lease` bounds how long a dead member holds a partition; `attempts` how often a message is tried."""

    def __init__(
        self,
        direct: Direct,
        hints: Hints,
        *,
        lease: timedelta = timedelta(seconds=15),
        poll: float = 1.0,
        batch: int = 100,
        attempts: int = 5,
        retention: timedelta = timedelta(days=7),
    ) -> None:
        self._direct = direct
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
            async with self._direct.connection() as connection, connection.transaction():
                await connection.fetch(LOCK, _LOCK)
                await connection.fetch(PUBLISH, given, HINTS, ARRIVED)

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        arrived = asyncio.Event()
        end = self._hints.listen(
            lambda kind, topic: arrived.set() if not kind or (kind == ARRIVED and topic in topics) else None
        )
        member = Member(
            direct=self._direct,
            consumer=consumer,
            topics=topics,
            handler=handler,
            lease=self._lease.total_seconds(),
            batch=self._batch,
            attempts=self._attempts,
        )
        try:
            await member.join()
            async with measured(consumer, lambda: self.lag(consumer, topics)):
                while True:
                    arrived.clear()
                    if await member.work():
                        continue
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll):
                            await arrived.wait()
        finally:
            end()

    async def lag(self, consumer: str, topics: Sequence[str]) -> int:
        with _unavailable():
            [found] = await self._direct.fetch(LAG, consumer, list(topics))
        return int(found.waiting)

    async def dead_letters(self, *, limit: int = 1000) -> Sequence[DeadLetter]:
        with _unavailable():
            rows = await self._direct.fetch(DEAD_LETTERS, limit)
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
        with _unavailable():
            await self._direct.fetch(SETTLE, [letter.position for letter in letters])

    async def check(self) -> None:
        """The bus is the database, which whoever asks has asked already."""

    async def close(self) -> None:
        """The connections are not ours."""

    def chores(self) -> Sequence[Delete]:
        return [delete(BusMessage).where(BusMessage.at < func.now() - self._retention)]


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """The database being away is BusUnavailable here."""
    try:
        yield
    except Exception as error:
        if is_disconnect(error):
            raise BusUnavailable(str(error)) from error
        raise
