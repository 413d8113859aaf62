"""A relay that is killed by SIGKILL after it has published and before it has removed what it published."""

import asyncio
import os
import signal
from collections.abc import Sequence

from shared.bus import Message
from shared.bus.postgres import PostgresBus
from shared.database import Hints, create_engine
from shared.outbox import Relay


class FatalBus(PostgresBus):
    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    url = os.environ["DATABASE_URL"]
    engine, hints = create_engine(url, application="crashing", connections=3), Hints(url)
    await Relay(engine, FatalBus(engine, hints), hints).run()


asyncio.run(main())
