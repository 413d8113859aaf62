"""Which errors say that PostgreSQL is away."""

import errno
import socket
from typing import Any

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` says that PostgreSQL is away, restarting, full or has closed our connection: a retry may help."""
    seen: Any = error
    while seen is not None:
        if isinstance(seen, _GONE):
            return True
        # asyncpg says the same by this one, and also what is our own mistake (a value of the wrong type, say). What was
        # lost while it was lent is taken back by its pool.
        if isinstance(seen, asyncpg.InterfaceError) and ("closed" in str(seen) or "released back" in str(seen)):
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
