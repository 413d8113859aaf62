"""Single statements, straight through the driver.

Each is its own transaction and costs a quarter of what a session does: for what runs with every request, every event
and every step of a reconciler. They are fixed texts that find rows by their keys.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import asyncpg
import orjson

from shared.database.limits import bounded

_WAIT = 10.0  # seconds for a connection that is free


class Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg ships no types
    """Its columns are attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Direct:
    """A few connections of its own; `async with` it, or `open` and `close` it.

    Placeholders are `$1`; JSON goes in and comes out parsed.
    """

    def __init__(self, url: str, *, application: str, connections: int) -> None:
        self._url = url
        # Plans are made once, perhaps while a table is small: they are to use its indexes when it is large.
        self._arguments = bounded(application, enable_seqscan="off")
        self._connections = connections
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Nothing is connected before it is used."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            init=_speak_json,
            reset=_leave_as_it_is,
            record_class=Row,
            **self._arguments,
        )

    async def close(self) -> None:
        if self._pool is not None:
            try:
                async with asyncio.timeout(1):
                    await self._pool.close()
            except Exception:
                self._pool.terminate()
            self._pool = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        async with self.connection() as connection:
            rows: list[Row] = await connection.fetch(statement, *arguments)
            return rows

    async def first(self, statement: str, *arguments: Any) -> Row | None:
        rows = await self.fetch(statement, *arguments)
        return rows[0] if rows else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """For several statements, perhaps in a `transaction()` of it. Leave nothing open."""
        assert self._pool is not None, "open it first"
        async with self._pool.acquire(timeout=_WAIT) as connection:
            yield connection


async def _speak_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
    )


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """The usual reset is a statement more, and there is nothing to reset."""
