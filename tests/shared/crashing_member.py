"""A member of a consumer group that is killed by SIGKILL while it handles its first event."""

import asyncio
import os
import signal
from datetime import timedelta

from shared.bus.postgres import PostgresBus
from shared.database import Hints, create_engine
from shared.events import CloudEvent


async def crash(_: CloudEvent) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    url = os.environ["DATABASE_URL"]
    engine = create_engine(url, application="crashing", connections=3)
    bus = PostgresBus(engine, Hints(url), lease=timedelta(seconds=2))
    await bus.consume(consumer="us", topics=["moorage.gateway"], handler=crash)


asyncio.run(main())
