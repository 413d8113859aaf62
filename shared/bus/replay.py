"""Dead letters, for whoever operates the platform.

    python -m shared.bus.replay             hand each again to the consumer that could not handle it
    python -m shared.bus.replay --list      only show them, a JSON object a line
    python -m shared.bus.replay --discard   have done with them without another try

It reads MOORAGE_DATABASE_URL and the MOORAGE_BUS… settings. What fails again comes back as a new dead letter; what is
no event cannot be handled by anybody and is discarded. Each is printed before it goes.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict

import orjson
import structlog
from pydantic import ValidationError

from shared.bus import Bus, BusUnavailable, DeadLetter, Message
from shared.bus.connect import connect
from shared.database import Direct, Hints
from shared.events import CloudEvent
from shared.settings import StateSettings


async def replay(bus: Bus, letters: Sequence[DeadLetter]) -> None:
    """Raises BusUnavailable: some may then be replayed, and none is settled."""
    messages = []
    for letter in letters:
        try:
            event = CloudEvent.model_validate(letter.event)
        except ValidationError:
            continue
        messages.append(Message(topic=letter.topic, key=letter.key, event=event, only_for=letter.consumer))
    if messages:
        await bus.publish(messages)


async def run(settings: StateSettings, *, show: bool, discard: bool) -> None:
    url = str(settings.database_url)
    direct = Direct(url, application="moorage-replay", connections=1)
    bus = connect(settings, direct, Hints(url))
    try:
        await direct.open()
        letters = await bus.dead_letters()
        for letter in letters:
            sys.stdout.write(orjson.dumps(asdict(letter)).decode() + "\n")
        if show or not letters:
            return
        if not discard:
            await replay(bus, letters)
        await bus.settle(letters)
    finally:
        await bus.close()
        await direct.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shared.bus.replay", description="Replay the dead letters.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--list", action="store_true", dest="show", help="only show them")
    choice.add_argument("--discard", action="store_true", help="have done with them without another try")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the letters
    try:
        settings = StateSettings()
        asyncio.run(run(settings, show=options.show, discard=options.discard))
    except ValidationError as error:
        sys.exit(str(error))
    except BusUnavailable as error:
        sys.exit(f"the bus is away: {error}")


if __name__ == "__main__":
    main()
