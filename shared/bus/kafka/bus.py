"""The bus itself: what its records mean, what becomes of those that cannot be handled."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aiokafka import ConsumerRecord, TopicPartition
from sqlalchemy import Delete

from shared.bus import BusUnavailable, DeadLetter, Handler, Message
from shared.bus.cancelled import cancelled
from shared.bus.cloudevents import decode, encode
from shared.bus.delivery import deliver
from shared.bus.kafka.cluster import DEAD_LETTERS, Cluster, unavailable
from shared.bus.kafka.member import Member
from shared.bus.kafka.producer import Producer, Record
from shared.bus.lag import measured
from shared.telemetry import get_logger

log = get_logger(__name__)

ONLY_FOR = "moorage_only_for"
CONSUMER = "moorage_consumer"
TOPIC = "moorage_topic"
CAUSE = "moorage_cause"

_SETTLED = "moorage.replay"  # the group whose offset tells how far the dead letters are settled
_PAUSE = 0.5


class KafkaBus:
    """`attempts` is how often an event is tried, `limit` how long at most; a dead member is noticed after `session`."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        attempts: int = 5,
        limit: timedelta = timedelta(seconds=7.5),
        session: timedelta = timedelta(seconds=10),
        batch: int = 500,
    ) -> None:
        self._cluster = cluster
        self._producer = Producer(cluster)
        self._attempts = attempts
        self._limit = limit
        self._session = session
        self._batch = batch

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._producer.send([_record(message) for message in messages])

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        async def work(record: ConsumerRecord, member: Member) -> None:
            await self._handle(record, member, consumer, handler)

        async with measured(consumer, lambda: self.lag(consumer, topics)):
            while not cancelled():
                try:
                    await self._cluster.prepare([*topics, DEAD_LETTERS])
                    member = Member(
                        self._cluster,
                        group=consumer,
                        topics=topics,
                        batch=self._batch,
                        session=self._session,
                        patience=self._limit,
                    )
                    with unavailable():
                        await member.run(work)
                except BusUnavailable as error:
                    log.warning("bus.membership_ended", consumer=consumer, error=str(error))
                    await asyncio.sleep(_PAUSE)

    async def lag(self, consumer: str, topics: Sequence[str]) -> int:
        return await self._cluster.lag(consumer, topics)

    async def dead_letters(self, *, limit: int = 1000) -> Sequence[DeadLetter]:
        letters: list[DeadLetter] = []
        await self._cluster.prepare([DEAD_LETTERS])
        partition = TopicPartition(self._cluster.name(DEAD_LETTERS), 0)
        with unavailable():
            async with self._cluster.reader(group=_SETTLED) as reader:
                reader.assign([partition])
                end = (await reader.end_offsets([partition]))[partition]
                while len(letters) < limit and await reader.position(partition) < end:
                    found = await reader.getmany(timeout_ms=1000, max_records=limit - len(letters))
                    letters += [_letter(record) for record in found.get(partition, [])]
        return letters

    async def settle(self, letters: Sequence[DeadLetter]) -> None:
        partition = TopicPartition(self._cluster.name(DEAD_LETTERS), 0)
        with unavailable():
            async with asyncio.timeout(self._cluster.timeout), self._cluster.reader(group=_SETTLED) as reader:
                reader.assign([partition])
                await reader.commit({partition: max(letter.position for letter in letters) + 1})

    async def check(self) -> None:
        await self._cluster.check()

    def chores(self) -> Sequence[Delete]:
        """The brokers keep to the retention of their topics by themselves."""
        return []

    async def close(self) -> None:
        await self._producer.close()

    async def _handle(self, record: ConsumerRecord, member: Member, consumer: str, handler: Handler) -> None:
        if _header(record, ONLY_FOR) not in ("", consumer):
            return
        cause: str | None
        try:
            event = decode(record.headers, record.value)
        except ValueError as error:
            cause = f"not a CloudEvent: {error}"
        else:
            cause = await deliver(
                event,
                handler,
                consumer=consumer,
                attempts=self._attempts,
                limit=self._limit.total_seconds(),
                hold=member.hold,
            )
        if cause is not None:
            await self._bury(record, member, consumer, cause)

    async def _bury(self, record: ConsumerRecord, member: Member, consumer: str, cause: str) -> None:
        log.error(
            "bus.dead_letter", consumer=consumer, topic=record.topic, event_id=_header(record, "ce_id"), cause=cause
        )
        origin = [(name, content) for name, content in record.headers if name != ONLY_FOR]
        why = {CONSUMER: consumer, TOPIC: record.topic.removeprefix(self._cluster.prefix), CAUSE: cause}
        letter = Record(
            identity=(consumer, record.topic, record.partition, record.offset),
            topic=DEAD_LETTERS,
            key=record.key,
            value=record.value,
            headers=[*origin, *((name, text.encode()) for name, text in why.items())],
        )
        while True:
            try:
                return await self._producer.send([letter])
            except BusUnavailable as error:
                log.warning("bus.away", consumer=consumer, error=str(error))
                await asyncio.sleep(_PAUSE)
            await member.hold()


def _record(message: Message) -> Record:
    headers, value = encode(message.event)
    if message.only_for is not None:
        headers.append((ONLY_FOR, message.only_for.encode()))
    return Record(
        identity=(message.topic, message.event.id, message.only_for),
        topic=message.topic,
        key=message.key.encode(),
        value=value,
        headers=headers,
    )


def _letter(record: ConsumerRecord) -> DeadLetter:
    try:
        event = decode(record.headers, record.value)
    except ValueError:
        event = {"data": repr(record.value)}
    return DeadLetter(
        position=record.offset,
        consumer=_header(record, CONSUMER),
        topic=_header(record, TOPIC),
        key=(record.key or b"").decode(errors="replace"),
        event=event,
        cause=_header(record, CAUSE),
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
    )


def _header(record: ConsumerRecord, name: str) -> str:
    return next((content.decode(errors="replace") for each, content in record.headers if each == name), "")
