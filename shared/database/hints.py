"""Hints (LISTEN): something may have changed.

A hint may be lost, doubled or late, so whoever listens also scans.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import asyncpg

from shared.telemetry import get_logger

log = get_logger(__name__)

HINTS = "moorage"
"""The NOTIFY channel; its payload is `<event type> <subject>`."""

_PROBE_SECONDS = 30.0


class Hints:
    """One LISTEN connection a process, kept alive; dispatches hints to whoever asked.

    After every (re)connect listeners get `("", "")`: hints may have been missed, look at everything.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: set[Callable[[str, str], None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="hints")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, listener: Callable[[str, str], None]) -> Callable[[], None]:
        """Call `listener(event type, subject)` on every hint; what comes back ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    @contextlib.asynccontextmanager
    async def changes(self, subject: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever `subject` may have changed; enter before reading what is waited for."""
        changed = asyncio.Event()
        end = self.listen(lambda _, about: changed.set() if about in (subject, "") else None)
        try:
            yield changed
        finally:
            end()

    def _dispatch(self, payload: str) -> None:
        kind, _, subject = payload.partition(" ")
        for listener in tuple(self._listeners):
            try:
                listener(kind, subject)
            except Exception:
                log.exception("hints.listener_failed", kind=kind, subject=subject)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:
                log.warning("hints.lost", error=repr(error))
            await asyncio.sleep(0.5)

    async def _listen(self) -> None:
        """Until the connection is lost."""
        settings = {"application_name": "moorage-hints"}
        connection = await asyncpg.connect(self._url, timeout=5, server_settings=settings)
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(HINTS, lambda *args: self._dispatch(str(args[3])))
            self._dispatch("")
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await lost.wait()
                    return
                # Nobody tells us when the network swallowed the connection, and nothing else is sent on it.
                await connection.execute("SELECT 1", timeout=5)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)
