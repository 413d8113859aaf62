"""A member of a consumer group that applies EVENTS events, and is killed by SIGKILL while it handles the next one."""

import asyncio
import os
import signal
from datetime import timedelta

from sqlalchemy import text

from shared.bus import Bus, Handler
from shared.bus.kafka import Cluster, KafkaBus
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints, Sessions, create_engine, create_sessions
from shared.events import CloudEvent
from shared.outbox import first_delivery


def applying(sessions: Sessions) -> Handler:
    """Puts down subject and number of each event it has not seen, in the order that it gets them."""
    statement = text("INSERT INTO applied (subject, number) VALUES (:subject, :number)")

    async def handle(event: CloudEvent) -> None:
        async with sessions.begin() as session:
            if await first_delivery(session, consumer="us", event_id=event.id):
                values = {"subject": event.subject, "number": int(event.data["client"])}
                await session.execute(statement, values)

    return handle


def crashing(handle: Handler, *, after: int) -> Handler:
    handled = 0

    async def crash(event: CloudEvent) -> None:
        nonlocal handled
        if handled == after:
            os.kill(os.getpid(), signal.SIGKILL)
        await handle(event)
        handled += 1

    return crash


def join(direct: Direct, url: str) -> Bus:
    short = timedelta(seconds=2)
    if server := os.environ.get("KAFKA"):
        return KafkaBus(Cluster(servers=[server], prefix=os.environ["PREFIX"]), session=short)
    return PostgresBus(direct, Hints(url), lease=short)


async def main() -> None:
    url = os.environ["DATABASE_URL"]
    engine = create_engine(url, application="crashing", connections=3)
    handler = crashing(applying(create_sessions(engine)), after=int(os.environ.get("EVENTS", "0")))
    async with Direct(url, application="crashing", connections=3) as direct:
        await join(direct, url).consume(consumer="us", topics=["moorage.gateway"], handler=handler)


if __name__ == "__main__":
    asyncio.run(main())
