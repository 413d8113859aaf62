"""A queue of keys: each waits at most once, and none is handed out while it is being worked on.

The idea is client-go's workqueue: a key that is added during its own processing comes again afterwards.
"""

import asyncio
import contextlib
import heapq
from itertools import count


class WorkQueue:
    """`backoff` is the first delay of `retry` in seconds; each further one doubles, up to `longest`."""

    def __init__(self, *, backoff: float = 0.1, longest: float = 60.0) -> None:
        self._backoff = backoff
        self._longest = longest
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = count()
        self._working: set[str] = set()
        self._again: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    def add(self, key: str, *, delay: float = 0.0) -> None:
        """Have `key` worked on after `delay` seconds, or earlier if it is already due earlier."""
        due = asyncio.get_running_loop().time() + delay
        if key in self._working:
            self._again[key] = min(due, self._again.get(key, due))
        elif due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._changed.set()

    async def get(self) -> str:
        """The next key that is due; call `done` or `retry` with it afterwards."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                heapq.heappop(self._heap)  # superseded by an earlier time
            wait = self._heap[0][0] - loop.time() if self._heap else None
            if wait is not None and wait <= 0:
                _, _, key = heapq.heappop(self._heap)
                del self._due[key]
                self._working.add(key)
                return key
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def done(self, key: str) -> None:
        """The work on `key` succeeded: its backoff starts anew."""
        self._failures.pop(key, None)
        self._finish(key)

    def retry(self, key: str) -> float:
        """The work on `key` failed: it comes again after the delay that is returned (seconds)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(self._backoff * 2.0 ** (failures - 1), self._longest)
        self._finish(key)
        self.add(key, delay=delay)
        return delay

    def _finish(self, key: str) -> None:
        self._working.discard(key)
        if (again := self._again.pop(key, None)) is not None:
            self.add(key, delay=max(0.0, again - asyncio.get_running_loop().time()))
