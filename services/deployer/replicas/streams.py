"""A replica's log as pieces of bytes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

_PIECE = 64 * 1024


async def first(lines: AsyncIterator[str]) -> str | None:
    """The first line, if there is one; the rest is let go."""
    try:
        return await anext(lines, None)
    finally:
        await _close(lines)


async def whole(lines: AsyncIterator[str]) -> AsyncGenerator[bytes]:
    """Lines that are all there, in large pieces."""
    piece = bytearray()
    async for line in lines:
        piece += _encoded(line)
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def followed(
    lines: AsyncIterator[str], *, stopping: asyncio.Event, longest: float = 300.0
) -> AsyncGenerator[bytes]:
    """Each line as it comes, until they end, the service stops, or `longest` seconds are over: whoever follows on asks
    anew, and token and permissions are looked at again."""
    loop = asyncio.get_running_loop()
    end = loop.time() + longest
    stopped = asyncio.create_task(stopping.wait())
    following = asyncio.create_task(_next(lines))
    try:
        while True:
            left = end - loop.time()
            await asyncio.wait({following, stopped}, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED)
            if left <= 0 or not following.done():
                return
            line = following.result()
            if line is None:
                return
            yield _encoded(line)
            following = asyncio.create_task(_next(lines))
    finally:
        for task in (stopped, following):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await _close(lines)


async def _close(lines: AsyncIterator[str]) -> None:
    if isinstance(lines, AsyncGenerator):
        await lines.aclose()


async def _next(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
