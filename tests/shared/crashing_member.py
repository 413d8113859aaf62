"""A member of a consumer group that is killed by SIGKILL while it handles its first event."""

import asyncio
import os
import signal
from datetime import timedelta

from shared.bus import Bus
from shared.bus.kafka import Cluster, KafkaBus
from shared.bus.postgres import PostgresBus
from shared.database import Hints, create_engine
from shared.events import CloudEvent


async def crash(_: CloudEvent) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def join() -> Bus:
    short = timedelta(seconds=2)
    if server := os.environ.get("KAFKA"):
        return KafkaBus(Cluster(servers=[server], prefix=os.environ["PREFIX"]), session=short)
    url = os.environ["DATABASE_URL"]
    return PostgresBus(create_engine(url, application="crashing", connections=3), Hints(url), lease=short)


async def main() -> None:
    await join().consume(consumer="us", topics=["moorage.gateway"], handler=crash)


asyncio.run(main())
