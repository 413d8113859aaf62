"""A relay that is killed by SIGKILL after it has published and before it has removed what it published."""

import asyncio
import os
import signal
from collections.abc import Sequence

from shared.bus import Message
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints
from shared.outbox import Relay


class FatalBus(PostgresBus):
    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    url = os.environ["DATABASE_URL"]
    async with Direct(url, application="crashing", connections=3) as direct:
        await Relay(direct, FatalBus(direct, Hints(url)), Hints(url)).run()


asyncio.run(main())
