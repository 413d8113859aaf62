"""A member of a consumer group: handles one event at a time, commits after it, hands over between two of them."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from itertools import chain
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition

from shared.bus.cancelled import cancelled
from shared.bus.kafka.cluster import Cluster

_COMMIT_EVERY = 1.0  # seconds: the most that is handled twice if we are killed
_FETCH = 128 * 1024  # bytes of a partition: so much of a flood may come before what is in the others
_FAREWELL = 1.0  # seconds for each of two steps


class Leaving(Exception):
    """The partitions are on their way to somebody else: handle nothing more."""


class Work(Protocol):
    async def __call__(self, record: ConsumerRecord, member: "Member") -> None:
        """Deal with one record. Raises Leaving, out of `member.hold`, if that was not begun."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(
        self,
        cluster: Cluster,
        *,
        group: str,
        topics: Sequence[str],
        batch: int,
        session: timedelta,
        patience: timedelta,
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._batch = batch
        self._leaving = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._handled: dict[TopicPartition, int] = {}
        self._committed_at = time.monotonic()
        milliseconds = int(session.total_seconds() * 1000)
        self._consumer = AIOKafkaConsumer(
            group_id=cluster.name(group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=milliseconds,
            heartbeat_interval_ms=milliseconds // 10,  # by these the others learn that somebody wants to join
            # We are waited for while we end what we are at.
            rebalance_timeout_ms=milliseconds + int(patience.total_seconds() * 1000),
            max_partition_fetch_bytes=_FETCH,
            **cluster.client(),
        )

    async def run(self, work: Work) -> None:
        """Until cancelled, or KafkaError: then this membership is over, and another one can be begun."""
        self._consumer.subscribe([self._cluster.name(topic) for topic in self._topics], listener=self)
        try:
            await self._consumer.start()
            while not cancelled():
                batches = await self._consumer.getmany(timeout_ms=1000, max_records=self._batch)
                if batches:
                    # What was returned is of partitions that are ours; from here to the end of `_work` they stay it.
                    self._leaving = False
                    self._idle.clear()
                    await self._work(chain.from_iterable(batches.values()), work)
        finally:
            await self._leave()

    async def hold(self) -> None:
        """Before an attempt. Raises Leaving."""
        if self._leaving:
            raise Leaving
        if self._handled and time.monotonic() - self._committed_at > _COMMIT_EVERY:
            await self._commit()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's signature
        self._leaving = True
        await self._idle.wait()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing to do: positions are those that were committed."""

    async def _work(self, records: Iterable[ConsumerRecord], work: Work) -> None:
        try:
            for record in records:
                await work(record, self)
                self._handled[TopicPartition(record.topic, record.partition)] = record.offset + 1
        except Leaving:
            pass
        finally:
            try:
                if not cancelled():
                    await self._commit()
            finally:
                self._idle.set()

    async def _commit(self) -> None:
        """Raises KafkaError when the group has gone on without us; waits while the brokers are away."""
        if self._handled:
            await self._consumer.commit(self._handled)
        self._handled = {}
        self._committed_at = time.monotonic()

    async def _leave(self) -> None:
        # Not for long, since we may be stopping: else the session runs out, and what is not committed comes again.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_FAREWELL):
                await self._commit()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_FAREWELL):
                await self._consumer.stop()
