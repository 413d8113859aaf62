"""Waiting for the world to become so, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(true: Callable[[], object | Awaitable[object]], *, within: float = 10.0) -> None:
    """Look every 10 ms; AssertionError when it is not so in time."""
    deadline = time.monotonic() + within
    while True:
        answer = true()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, f"not so within {within} s: {inspect.getsource(true).strip()}"
        await asyncio.sleep(0.01)
