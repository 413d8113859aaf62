"""The bus over Kafka: the contract, and what only this implementation has to withstand. With a real broker."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy import asyncapi
from shared.bus import Bus, BusUnavailable, Message
from shared.bus.connect import connect
from shared.bus.kafka import DEAD_LETTERS, Cluster, KafkaBus
from shared.bus.replay import replay
from shared.database import Direct, Hints
from shared.events import CONTRACTS, CloudEvent, EventType, new_event
from shared.settings import StateSettings
from tests.servers.kafka import PASSWORD, USER, Broker
from tests.shared.bus_contract import TOPIC, BusContract, Seen, consuming, dead_letters, message
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("kafka")]


class KafkaMembers:
    """`prefix` gives each test topics and groups of its own on the broker that all share."""

    def __init__(self, broker: Broker) -> None:
        self.cluster = Cluster(servers=[broker.address], prefix=f"{uuid4().hex}.", partitions=4)
        self.environment = {
            "KAFKA": broker.address,
            "PREFIX": self.cluster.prefix,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        }
        self._joined: list[KafkaBus] = []

    def join(self, *, attempts: int = 3, lease: float = 10.0) -> Bus:
        limit, session = timedelta(seconds=lease / 2), timedelta(seconds=5)
        bus = KafkaBus(self.cluster, attempts=attempts, limit=limit, session=session)
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


async def test_topics_are_created_as_the_settings_say(broker: Broker) -> None:
    cluster = Cluster(servers=[broker.address], prefix=f"{uuid4().hex}.", partitions=3, retention=timedelta(days=2))
    await cluster.prepare([TOPIC, DEAD_LETTERS])
    await cluster.prepare([TOPIC])
    await replace(cluster, partitions=5).prepare([TOPIC])  # what is there is left as it is
    async with admin(broker) as kafka:
        topics = await kafka.describe_topics([cluster.name(TOPIC), cluster.name(DEAD_LETTERS)])
        assert [len(topic["partitions"]) for topic in topics] == [3, 1]
        (answer,) = await kafka.describe_configs([ConfigResource(ConfigResourceType.TOPIC, cluster.name(TOPIC))])
        config = {name: value for name, value, *_ in answer.resources[0][4]}
        assert config["retention.ms"] == str(2 * 86_400_000)
        assert config["segment.ms"] == str(86_400_000 // 2)


async def test_what_is_no_event_goes_to_the_dead_letters_and_holds_up_nobody(members: KafkaMembers) -> None:
    bus, seen = members.join(), Seen()
    await members.cluster.prepare([TOPIC])
    async with AIOKafkaProducer(**members.cluster.client()) as stranger:
        topic = members.cluster.name(TOPIC)
        await stranger.send_and_wait(topic, b"{", key=b"churn", partition=0)
        await stranger.send_and_wait(topic, b"{}", key=b"churn", headers=[("ce_id", b"x")], partition=0)
        await stranger.send_and_wait(topic, b"\xff", key=b"\xff", headers=[("ce_id", b"\xff")], partition=0)
    async with consuming(bus, seen):
        await bus.publish([message(f"key-{number}", number) for number in range(8)])
        await until(lambda: len(seen.ids) == 8)
        letters = await bus.dead_letters()
    assert [letter.cause.split(":")[0] for letter in letters] == ["not a CloudEvent"] * 3
    await replay(bus, letters)
    await bus.settle(letters)
    assert await bus.dead_letters() == []


async def test_a_record_is_a_cloud_event_in_binary_mode_with_the_subject_as_its_key(members: KafkaMembers) -> None:
    sent = message("churn", 7)
    await members.join().publish([sent])
    async with AIOKafkaConsumer(
        members.cluster.name(TOPIC), auto_offset_reset="earliest", **members.cluster.client()
    ) as reader:
        record = await reader.getone()
    assert (record.key, json.loads(record.value)) == (b"churn", sent.event.data)
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": sent.event.id.encode(),
        "ce_source": b"/moorage/gateway",
        "ce_type": b"moorage.client.changed",
        "ce_subject": b"churn",
        "ce_time": sent.event.time.isoformat().encode(),
        "content-type": b"application/json",
    }


async def test_the_replay_command_lists_replays_and_discards(members: KafkaMembers, database_url: str) -> None:
    bus, seen = members.join(attempts=1), Seen()

    async def handler(event: CloudEvent) -> None:
        if event.data["client"] == "13" and not seen.ids:
            await seen(event)
            raise ValueError("once")
        await seen(event)

    environment = {
        **os.environ,
        "MOORAGE_DATABASE_URL": database_url,
        "MOORAGE_BUS": f"kafka://{members.environment['KAFKA']}",
        "MOORAGE_BUS_PREFIX": members.cluster.prefix,
        "MOORAGE_BUS_PARTITIONS": "4",
    }

    async def command(*options: str) -> list[dict[str, Any]]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shared.bus.replay", *options, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == 0
        return [json.loads(line) for line in output.splitlines()]

    poison = message("churn", 13)
    async with consuming(bus, handler):
        await bus.publish([poison])
        await until(lambda: dead_letters(bus))
        (listed,) = await command("--list")
        assert (listed["consumer"], listed["cause"]) == ("us", "ValueError('once')")
        assert listed["event"]["id"] == poison.event.id
        await command()
        await until(lambda: seen.numbers["churn"] == [13, 13])
    assert await command("--discard") == []


async def test_a_consumer_stops_at_once_though_the_broker_is_away(members: KafkaMembers, broker: Broker) -> None:
    bus, begun = members.join(), asyncio.Event()

    async def handler(_: CloudEvent) -> None:
        begun.set()
        await asyncio.Event().wait()

    await bus.publish([message("churn")])
    async with consuming(bus, handler):
        await begun.wait()
        broker.kill()
        started = time.monotonic()
    assert time.monotonic() - started < 4
    await bus.close()
    assert time.monotonic() - started < 8
    await broker.start()


async def test_what_was_not_acknowledged_is_published_again_and_arrives_once(
    members: KafkaMembers, broker: Broker
) -> None:
    cluster = replace(members.cluster, timeout=1.0)
    bus, seen = KafkaBus(cluster), Seen()
    await bus.publish([message("churn", 0)])
    broker.pause()
    late = [message("churn", number) for number in (1, 2, 3)]
    for _ in range(2):
        with pytest.raises(BusUnavailable):
            await bus.publish(late)
    broker.resume()
    await until(lambda: published(bus, late))
    async with consuming(members.join(), seen):
        await until(lambda: len(seen.ids) >= 4)
        await bus.publish([message("churn", 4)])
        await until(lambda: 4 in seen.numbers["churn"])
    assert seen.numbers["churn"] == [0, 1, 2, 3, 4]
    await bus.close()


async def published(bus: Bus, messages: Sequence[Message]) -> bool:
    try:
        await bus.publish(messages)
    except BusUnavailable:
        return False
    return True


@asynccontextmanager
async def admin(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await client.start()
    yield client
    await client.close()


@asynccontextmanager
async def connected(environment: dict[str, str]) -> AsyncIterator[Bus]:
    settings = StateSettings(**{name.removeprefix("MOORAGE_").lower(): text for name, text in environment.items()})
    url = str(settings.database_url)
    direct = Direct(url, application="test", connections=1)
    bus = connect(settings, direct, Hints(url))
    yield bus
    await bus.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_over_tls_and_signed_in(broker: Broker, secure: dict[str, str], mechanism: str) -> None:
    async with connected(secure | {"MOORAGE_BUS_SASL": mechanism}) as bus:
        seen = Seen()
        async with consuming(bus, seen):
            await bus.publish([message("churn", 1)])
            await until(lambda: seen.numbers["churn"] == [1])


@pytest.mark.parametrize("wrong", [{"MOORAGE_BUS_PASSWORD": "guessed"}, {"MOORAGE_BUS_TLS_CA": ""}])
async def test_with_a_wrong_password_or_an_unknown_authority_there_is_no_bus(
    broker: Broker, secure: dict[str, str], wrong: dict[str, str]
) -> None:
    async with connected(secure | wrong) as bus:
        with pytest.raises(BusUnavailable):
            await bus.publish([message("churn", 1)])
        with pytest.raises(BusUnavailable):
            await bus.check()


@pytest.fixture
def secure(broker: Broker, database_url: str) -> dict[str, str]:
    return {
        "MOORAGE_DATABASE_URL": database_url,
        "MOORAGE_BUS": f"kafka://{broker.secure_address}",
        "MOORAGE_BUS_PREFIX": f"{uuid4().hex}.",
        "MOORAGE_BUS_TLS": "true",
        "MOORAGE_BUS_TLS_CA": str(broker.authority),
        "MOORAGE_BUS_SASL": "SCRAM-SHA-256",
        "MOORAGE_BUS_USERNAME": USER,
        "MOORAGE_BUS_PASSWORD": PASSWORD,
    }


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
async def test_what_is_on_the_wire_is_what_the_document_says(members: KafkaMembers, contract: EventType) -> None:
    samples = {int: 1, bool: True, str: "x"}
    data = {name: samples[field.annotation] for name, field in contract.data.model_fields.items() if field.annotation}
    sent = Message(topic=contract.topic, key="churn", event=new_event(contract, "churn", data))
    await members.join().publish([sent])
    async with AIOKafkaConsumer(
        members.cluster.name(contract.topic), auto_offset_reset="earliest", **members.cluster.client()
    ) as reader:
        record = await reader.getone()

    document = asyncapi.document()
    (channel,) = (each for each in document["channels"].values() if each["address"] == contract.topic)
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["ce_type"] in channel["messages"]
    described = document["components"]["messages"][headers["ce_type"]]
    jsonschema_rs.validate(described["headers"], headers)
    assert set(headers) <= set(described["headers"]["properties"])
    name = described["payload"]["$ref"].rpartition("/")[2]
    jsonschema_rs.validate(document["components"]["schemas"][name], json.loads(record.value))
    assert record.key.decode() == headers["ce_subject"]
