"""The bus over Kafka: the contract, and what only this implementation has to withstand. With a real broker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.bus import Bus
from shared.bus.kafka import Cluster, KafkaBus
from tests.servers.kafka import Broker
from tests.shared.bus_contract import BusContract

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("kafka")]


class KafkaMembers:
    """`prefix` gives each test topics and groups of its own on the broker that all share."""

    def __init__(self, broker: Broker) -> None:
        self.cluster = Cluster(servers=[broker.address], prefix=f"{uuid4().hex}.", partitions=4)
        self.environment = {"KAFKA": broker.address, "PREFIX": self.cluster.prefix}
        self._joined: list[KafkaBus] = []

    def join(self, *, attempts: int = 3, lease: float = 10.0) -> Bus:
        bus = KafkaBus(
            self.cluster,
            attempts=attempts,
            limit=timedelta(seconds=lease / 2),
            session=timedelta(seconds=min(lease, 2)),
        )
        self._joined.append(bus)
        return bus

    async def close(self) -> None:
        await asyncio.gather(*(bus.close() for bus in self._joined))


@pytest.fixture
async def members(broker: Broker) -> AsyncIterator[KafkaMembers]:
    made = KafkaMembers(broker)
    yield made
    await made.close()


class TestKafkaBus(BusContract):
    pass
