"""The connection to PostgreSQL: engine, sessions, hints (LISTEN), and which errors mean that it is away.

A hint says that something may have changed; it may be lost, doubled or late, so whoever listens also scans.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.telemetry import get_logger

log = get_logger(__name__)

Sessions = async_sessionmaker[AsyncSession]

HINTS = "moorage"
"""The NOTIFY channel; its payload is `<event type> <subject>`."""

_PROBE_SECONDS = 30.0


def create_engine(url: str, *, application: str, connections: int) -> AsyncEngine:
    """An engine whose statements and lock waits are bounded, and which lends no connection that has been closed."""
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=10,
        pool_use_lifo=True,  # the last one used has our statements prepared
        json_deserializer=orjson.loads,  # a page of rows is mostly JSON; this takes a fifth of the standard one's time
        hide_parameters=True,  # an error with its parameters ends in a log, and parameters may be secret
        connect_args={
            "timeout": 5,
            "command_timeout": 20,  # for a server that is cut off; one that answers ends a statement sooner
            "server_settings": {
                "application_name": application,
                "statement_timeout": "15000",
                "lock_timeout": "10000",
                "idle_in_transaction_session_timeout": "60000",
                # The server drops a client that is cut off, and with it its locks.
                "tcp_keepalives_idle": "15",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
                # A plan made for any value does not know that this one is rare, and reads a whole table for it.
                "plan_cache_mode": "force_custom_plan",
                "jit": "off",  # our statements are short; compiling them costs more than it saves
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """Have the pool connect anew instead of lending what the server has closed.

    The driver knows of that without asking, so this costs nothing; `pool_pre_ping` would cost three round trips.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server has closed this connection")


def create_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions that, once closed, refuse to be used again: a stream that outlives its request must not hold one."""
    return async_sessionmaker(engine, expire_on_commit=False, close_resets_only=False)


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


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` says that PostgreSQL is away, restarting, full or has closed our connection: a retry may help."""
    seen: Any = error
    while seen is not None:
        if isinstance(seen, _GONE):
            return True
        # asyncpg says the same by this one, and also what is our own mistake (a value of the wrong type, say).
        if isinstance(seen, asyncpg.InterfaceError) and "closed" in str(seen):
            return True
        # The server has said goodbye on a connection that lay idle, and its end has not arrived yet.
        if isinstance(seen, asyncpg.InternalClientError) and "cannot switch to state" in str(seen):
            return True
        if isinstance(seen, OSError) and seen.errno in _UNREACHABLE:
            return True
        seen = getattr(seen, "orig", None) or seen.__cause__
    return False


_GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    socket.gaierror,
    TimeoutError,
    PoolTimeoutError,
)
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
