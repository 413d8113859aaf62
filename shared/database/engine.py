"""The engine and its sessions: for everything that has to be one transaction, and for what is read by the ORM."""

from typing import Any

import orjson
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.database.limits import bounded

Sessions = async_sessionmaker[AsyncSession]


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
        # A plan made for any value does not know that this one is rare, and reads a whole table for it.
        connect_args=bounded(application, plan_cache_mode="force_custom_plan"),
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
