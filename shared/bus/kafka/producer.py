"""The producer's side: idempotent, acknowledged by all replicas, patient.

aiokafka's producer goes on trying for as long as it lives, and the brokers drop what they have seen of it before. So
records that were not acknowledged in time are not sent anew when they come a second time: they are waited for again,
and arrive once. Only a producer that cannot go on is replaced; what it had under way may then arrive twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from shared.bus import BusUnavailable
from shared.bus.kafka.cluster import Cluster, unavailable
from shared.telemetry import get_logger

log = get_logger(__name__)

_LONGEST_SILENCE = 60.0  # the brokers may have moved: then the bootstrap servers have to be asked again
_BATCH = 512 * 1024  # bytes a partition; brokers refuse more than a mebibyte


@dataclass(frozen=True)
class Record:
    """`identity` says which records are the same."""

    identity: Hashable
    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class Producer:
    """Connects when it is first needed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer: Any = None  # an AIOKafkaProducer, once it is needed
        self._starting = asyncio.Lock()
        self._prepared: set[str] = set()
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}
        self._heard = 0.0

    async def send(self, records: Sequence[Record]) -> None:
        """Return once all are safe. Raises BusUnavailable: what was taken goes on being tried."""
        await self._prepare(records)
        producer = await self._connected()
        try:
            with unavailable():
                async with asyncio.timeout(self._cluster.timeout):
                    waiting = [await self._enqueue(producer, record) for record in records]
                    for acknowledged in waiting:
                        # A batch is acknowledged as a whole, so that few are waited for. `wait` cancels none of them,
                        # unlike `gather`: what they stand for is sent all the same.
                        if not acknowledged.done():
                            await asyncio.wait([acknowledged])
                for acknowledged in waiting:
                    acknowledged.result()
        except BusUnavailable as error:
            if isinstance(error.__cause__, KafkaError) or time.monotonic() - self._heard > _LONGEST_SILENCE:
                await self._drop(producer)
            raise
        self._heard = time.monotonic()
        for record in records:
            self._under_way.pop(record.identity, None)

    async def close(self) -> None:
        if (producer := self._producer) is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(1):
                    await producer.flush()
            await self._drop(producer)

    async def _prepare(self, records: Sequence[Record]) -> None:
        if topics := {record.topic for record in records} - self._prepared:
            await self._cluster.prepare(sorted(topics))
            self._prepared |= topics

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    enable_idempotence=True, acks="all", max_batch_size=_BATCH, **self._cluster.client()
                )
                try:
                    with unavailable():
                        async with asyncio.timeout(self._cluster.timeout):
                            await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer, self._heard = producer, time.monotonic()
            return self._producer

    async def _enqueue(self, producer: AIOKafkaProducer, record: Record) -> asyncio.Future[Any]:
        if (future := self._under_way.get(record.identity)) is None:
            future = self._under_way[record.identity] = await producer.send(
                self._cluster.name(record.topic), record.value, key=record.key, headers=record.headers
            )
        return future

    async def _drop(self, producer: AIOKafkaProducer) -> None:
        """End it without another attempt; whoever sends next makes a new one."""
        if self._producer is not producer:
            return
        self._producer = None
        self._prepared.clear()
        abandoned = list(self._under_way.values())
        self._under_way.clear()
        # stop() would go on until everything is acknowledged, and there is no other way to end the sending task.
        sender = producer._sender.sender_task  # noqa: SLF001 - see above
        await producer.client.close()
        for _ in range(2):  # at the first it still waits for what it has sent
            sender.cancel()
            await asyncio.wait([sender], timeout=0.5)
        await producer.stop()
        for future in abandoned:
            if not future.done():
                future.set_exception(ProducerClosed())
            future.exception()  # somebody has looked at it, else asyncio complains
