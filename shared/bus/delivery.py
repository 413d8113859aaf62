"""How one event is given to a handler, whatever the bus: attempts, time limit, and whose fault a failure is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from shared.bus import BusUnavailable, Handler
from shared.bus.cancelled import cancelled
from shared.database import is_disconnect
from shared.errors import Unavailable
from shared.events import CloudEvent
from shared.telemetry import get_logger

log = get_logger(__name__)

_LONGEST_CAUSE = 2000
_OUTAGE_PAUSE = 0.5


async def deliver(
    event: dict[str, Any],
    handler: Handler,
    *,
    consumer: str,
    attempts: int,
    limit: float,
    hold: Callable[[], Awaitable[None]],
) -> str | None:
    """None once `event` is handled; the cause for the dead letters when it cannot be.

    Each attempt may take `limit` seconds. `hold` comes before each of them and raises when the event is not ours any
    more. An outage of what the handler needs is not the event's fault: it is waited out, and counts as no attempt.
    """
    try:
        parsed = CloudEvent.model_validate(event)
    except ValidationError as error:
        return f"not a CloudEvent: {error}"[:_LONGEST_CAUSE]
    attempt = 0
    while True:
        await hold()
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                await handler(parsed)
            return None
        except asyncio.CancelledError:
            if cancelled():
                raise
            cause = "something that the handler waited for was cancelled"
        except Exception as error:
            if not timer.expired() and (is_disconnect(error) or isinstance(error, BusUnavailable | Unavailable)):
                log.warning("bus.handler_waits", consumer=consumer, event_id=parsed.id, error=repr(error))
                await asyncio.sleep(_OUTAGE_PAUSE)
                continue
            cause = f"took longer than {limit:g} s" if timer.expired() else repr(error)
        attempt += 1
        log.warning("bus.handler_failed", consumer=consumer, event_id=parsed.id, attempt=attempt, error=cause)
        if attempt == attempts:
            return cause[:_LONGEST_CAUSE]
        await asyncio.sleep(min(0.05 * 2**attempt, 2.0))
