"""Server-sent events: `Accept: text/event-stream` on a resource or a list gives its changes.

Each event has an id; a client that comes back says the last one it saw (`Last-Event-ID`) and misses nothing. Comments
keep the connection alive. A stream ends when the service stops, and after `longest` seconds: the client connects anew
by itself, and its token and permissions are looked at again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request
from fastapi.responses import StreamingResponse

MEDIA_TYPE = "text/event-stream"

EVENTS = {
    MEDIA_TYPE: {
        "schema": {"type": "string"},
        "example": 'id: 1815\nevent: changed\ndata: {"id": "churn", "generation": 8}\n\n',
    }
}
"""For the `content` of a route's answer."""

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", max_length=200, description="the id of the last event seen")
]


@dataclass(frozen=True)
class ServerEvent:
    """`data` is one line: JSON."""

    id: str
    event: str
    data: str

    def encode(self) -> bytes:
        return f"id: {self.id}\nevent: {self.event}\ndata: {self.data}\n\n".encode()


def wants_events(request: Request) -> bool:
    return MEDIA_TYPE in request.headers.get("accept", "")


def event_stream(
    events: AsyncGenerator[ServerEvent], *, stopping: asyncio.Event, heartbeat: float = 15.0, longest: float = 300.0
) -> StreamingResponse:
    """Answer with `events` as they come. They must not use the request's session: it is closed by then."""
    return StreamingResponse(
        _encoded(events, stopping=stopping, heartbeat=heartbeat, longest=longest),
        media_type=MEDIA_TYPE,
        headers={"X-Accel-Buffering": "no"},
    )


async def _encoded(
    events: AsyncGenerator[ServerEvent], *, stopping: asyncio.Event, heartbeat: float, longest: float
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    end = loop.time() + longest
    stopped = asyncio.create_task(stopping.wait())
    following = asyncio.create_task(_next(events))
    try:
        yield b": here\n\n"
        while not stopped.done() and loop.time() < end:
            await asyncio.wait({following, stopped}, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                yield b": still here\n\n"
                continue
            event = following.result()
            if event is None:
                return
            yield event.encode()
            following = asyncio.create_task(_next(events))
    finally:
        for task in (stopped, following):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await events.aclose()


async def _next(events: AsyncGenerator[ServerEvent]) -> ServerEvent | None:
    return await anext(events, None)
