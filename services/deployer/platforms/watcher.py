"""One listener to changes: keys come out in the order of their first change, each once however often it changed."""

import asyncio
from typing import Self
from uuid import UUID


class Watcher:
    """An async iterator of what has been added; it ends when it is closed."""

    def __init__(self) -> None:
        self._changed: dict[UUID, None] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, uid: UUID) -> None:
        self._changed[uid] = None
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UUID:
        while not self._changed:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        uid = next(iter(self._changed))
        del self._changed[uid]
        return uid
