"""The connection to PostgreSQL: engine, sessions, and hints (LISTEN).

A hint says that something may have changed; it may be lost, doubled or late, so whoever listens also scans.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.telemetry import get_logger

log = get_logger(__name__)

Sessions = async_sessionmaker[AsyncSession]

HINTS = "moorage"
"""The NOTIFY channel; its payload is `<event type> <subject>`."""


def create_engine(url: str, *, application: str, connections: int) -> AsyncEngine:
    """An engine whose statements and lock waits are bounded, and which checks a connection before it lends it."""
    return create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "timeout": 5,
            "server_settings": {
                "application_name": application,
                "statement_timeout": "15000",
                "lock_timeout": "10000",
                "idle_in_transaction_session_timeout": "60000",
                "jit": "off",  # our statements are short; compiling them costs more than it saves
            },
        },
    )


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


class Hints:
    """One LISTEN connection a process, kept alive; dispatches hints to whoever asked.

    After every (re)connect listeners get `("", "")`: hints may have been missed, look at everything.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: set[Callable[[str, str], None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

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
            listener(kind, subject)

    async def _run(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("hints.unreachable", error=str(error))
                await asyncio.sleep(0.5)
                continue
            lost = asyncio.Event()
            connection.add_termination_listener(lambda *_, lost=lost: lost.set())
            try:
                await connection.add_listener(HINTS, lambda *args: self._dispatch(str(args[3])))
                self.connected.set()
                self._dispatch("")
                await lost.wait()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("hints.lost", error=str(error))
            finally:
                self.connected.clear()
                with contextlib.suppress(Exception):
                    await connection.close(timeout=1)


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` says that PostgreSQL is away, restarting or closed our connection, so that a retry may help."""
    seen: Any = error
    while seen is not None:
        if isinstance(
            seen,
            asyncpg.PostgresConnectionError
            | asyncpg.CannotConnectNowError
            | asyncpg.AdminShutdownError
            | asyncpg.CrashShutdownError
            | asyncpg.TooManyConnectionsError
            | asyncpg.InterfaceError
            | ConnectionError
            | TimeoutError,
        ):
            return True
        seen = getattr(seen, "orig", None) or seen.__cause__
    return False
