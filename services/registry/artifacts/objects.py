"""Object stores (S3 and what speaks like it, Google, Azure) as storage, and as where artifacts are fetched from.

The only importer of obstore, the Python face of Rust's `object_store`: one library for all of them, without their SDKs.
Credentials and endpoints are those of the process's environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`), as their own tools
read them. Left out: serving by links that the store signs itself; every pull is checked here.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from services.registry.artifacts.storage import CHUNK, Kept

if TYPE_CHECKING:  # it is in the stubs only
    from obstore import GetResult

__all__ = ["ObjectStorage", "fetch"]

_PART = 16 << 20
"""Bytes of a part of an upload: S3 takes 10,000 parts, so 160 GiB at most; a few are in memory at once."""
_PARTS_AT_ONCE = 4


class ObjectStorage:
    """`url` is a bucket, with a prefix or without: `s3://bucket/models`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: ObjectStore = _open(url)

    async def keep(self, file: Path, place: str) -> None:
        with _os_errors():
            await obstore.put_async(self._store, place, file, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)

    async def find(self, place: str) -> Kept | None:
        try:
            with _os_errors():
                found = await obstore.head_async(self._store, place)
        except FileNotFoundError:
            return None
        return Kept(found["size"], f"{found['e_tag']}-{found['size']}")

    async def read(self, place: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        if start >= end:
            return
        with _os_errors():
            found = await obstore.get_async(self._store, place, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    @asynccontextmanager
    async def local(self, place: str, *, spool: Path) -> AsyncIterator[Path]:
        found = await self.find(place)
        if found is None:
            raise FileNotFoundError(place)
        with tempfile.NamedTemporaryFile(dir=spool, prefix="local-") as file:
            async for chunk in self.read(place, start=0, end=found.size):
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.flush)
            yield Path(file.name)

    async def remove(self, place: str) -> None:
        try:
            with _os_errors():
                await obstore.delete_async(self._store, place)
        except FileNotFoundError:
            return

    async def places(self) -> AsyncIterator[tuple[str, datetime]]:
        with _os_errors():
            async for batch in obstore.list(self._store, "sha256", chunk_size=1000):
                for found in batch:
                    yield found["path"], found["last_modified"]

    async def not_ready(self) -> str | None:
        try:
            async with asyncio.timeout(5):
                await self.find("sha256/probe")
        except (OSError, TimeoutError) as error:
            return f"{self._url}: {type(error).__name__}"
        return None


async def fetch(url: str) -> tuple[int, AsyncIterator[bytes]]:
    """The size of an object of any bucket that the process's credentials open, and its bytes. Raises OSError."""
    bucket, _, key = url.partition("://")[2].partition("/")
    scheme = url.partition(":")[0]
    with _os_errors():
        found = await obstore.get_async(_open(f"{scheme}://{bucket}"), key)
    return found.meta["size"], _stream(found)


async def _stream(found: "GetResult") -> AsyncIterator[bytes]:
    with _os_errors():
        async for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)


def _open(url: str) -> ObjectStore:
    store: ObjectStore = from_url(
        url,
        client_options={"connect_timeout": "5 seconds", "timeout": "60 minutes", "allow_http": True},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )
    return store


@contextmanager
def _os_errors() -> Iterator[None]:
    """Its errors may quote addresses with what is secret in them; their kind is enough."""
    try:
        yield
    except BaseError as error:
        raise OSError(f"the object store says {type(error).__name__}") from error
