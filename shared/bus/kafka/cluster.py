"""The cluster: where its brokers are, how we identify ourselves, the topics we need, and how far a group has come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ssl import SSLContext
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from shared.bus import BusUnavailable
from shared.bus.cancelled import cancelled
from shared.telemetry import get_logger

log = get_logger(__name__)

DEAD_LETTERS = "moorage.dead-letters"


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Whatever the cluster refuses or does not answer is BusUnavailable: trying again may help, an operator will."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        if cancelled():
            raise asyncio.CancelledError from error
        raise BusUnavailable(repr(error) if str(error) else "no answer in time") from error


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """`prefix` keeps installations that share a cluster apart: it stands before every topic and group.

    `partitions`, `retention` and `replication` (None: the brokers' default) are those of topics that we create; one
    that is there is left as it is: more partitions would move its keys. `timeout` is how long we wait, in seconds.
    """

    servers: Sequence[str]
    prefix: str = ""
    tls: SSLContext | None = None
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = None
    partitions: int = 8
    retention: timedelta = timedelta(days=7)
    replication: int | None = None
    timeout: float = 5.0

    def name(self, name: str) -> str:
        """Of a topic or a group, as the brokers know it."""
        return self.prefix + name

    def client(self) -> dict[str, Any]:
        """What every client of aiokafka is made with."""
        protocol = ("SASL_" if self.sasl_mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        options = {
            "bootstrap_servers": list(self.servers),
            "client_id": "moorage",
            "request_timeout_ms": 10_000,
            "security_protocol": protocol,
            "ssl_context": self.tls,
        }
        if self.sasl_mechanism:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    async def prepare(self, topics: Sequence[str]) -> None:
        """Create those that are not there; say when one that is has other partitions than the setting."""
        with unavailable():
            async with asyncio.timeout(self.timeout), self._administrator() as admin:
                answer = await admin.create_topics([self._new(topic) for topic in topics])
                refused = {topic: for_code(code) for topic, code, *_ in answer.topic_errors}
                found = {
                    topic["topic"]: (for_code(topic["error_code"]), len(topic["partitions"]))
                    for topic in await admin.describe_topics(list(refused))
                }
        for topic, refusal in refused.items():
            error, partitions = found[topic]
            # We may not be allowed to create it, nor need to if somebody else has.
            if refusal not in (NoError, TopicAlreadyExistsError) and error is not NoError:
                raise BusUnavailable(f"topic {topic}: {refusal.__name__}: {refusal.description}")
            if refusal is TopicAlreadyExistsError and partitions not in (self.partitions, 1):
                log.info("bus.partitions_differ", topic=topic, there=partitions, wanted=self.partitions)

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """Records of the topics after the offsets that the group has committed."""
        with unavailable():
            async with asyncio.timeout(self.timeout), self._administrator() as admin, self.reader() as reader:
                partitions = [
                    TopicPartition(topic["topic"], partition["partition"])
                    for topic in await admin.describe_topics([self.name(topic) for topic in topics])
                    for partition in topic["partitions"]
                ]
                committed = await admin.list_consumer_group_offsets(self.name(group))
                oldest, end = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        offsets = {partition: found.offset for partition, found in committed.items()}
        return sum(end[each] - max(offsets.get(each, 0), oldest[each]) for each in partitions)

    async def check(self) -> None:
        """Raises BusUnavailable unless a broker answers."""
        with unavailable():
            async with asyncio.timeout(self.timeout), self._administrator():
                pass  # it asks for the cluster's metadata

    @contextlib.asynccontextmanager
    async def reader(self, *, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer that is a member of nothing; with a group it can read and commit that one's offsets."""
        consumer = AIOKafkaConsumer(
            group_id=self.name(group) if group else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self.client(),
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    @contextlib.asynccontextmanager
    async def _administrator(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self.client())
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    def _new(self, topic: str) -> NewTopic:
        if topic == DEAD_LETTERS:
            # One partition, so that they have an order; kept for good, somebody has to look at them.
            partitions, retention = 1, -1
        else:
            partitions, retention = self.partitions, int(self.retention.total_seconds() * 1000)
        config = {"cleanup.policy": "delete", "retention.ms": str(retention)}
        if retention > 0:
            # A segment goes as a whole: a long one would keep its first events for much longer than we say.
            config["segment.ms"] = str(max(retention // 4, 60_000))
        return NewTopic(self.name(topic), partitions, self.replication or -1, {}, config)
