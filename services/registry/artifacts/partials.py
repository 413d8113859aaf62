"""Resumable uploads on their way: a row that says whose they are, a file that is as long as they have come.

No lock is held while the network is waited for. Each piece is written under a lock, and only at the file's present end:
so of two requests that append to the same upload (one of them perhaps a connection that the client has long given up),
one goes on, and the other one is told where the upload stands. Pieces that are on the disk stay, whatever breaks
afterwards.
"""

import asyncio
import fcntl
import io
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import delete, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts.store import BlobStore, batches, no_space, write_all
from services.registry.errors import OffsetMismatch, UploadBusy
from shared.errors import MoorageError, NotFound
from shared.http import Caller
from shared.schema import Upload


async def begin(session: AsyncSession, *, user: str, size: int | None, digest: str | None) -> Upload:
    made = Upload(id=uuid4(), user_id=user, size=size, digest=digest)
    session.add(made)
    await session.flush()
    return made


async def find(session: AsyncSession, id: UUID, *, caller: Caller) -> Upload:  # noqa: A002 - the API's word
    """Raises NotFound, also for another user's."""
    found = await session.get(Upload, id)
    if found is None:
        raise NotFound.named("upload", id)
    caller.require(None, kind="upload", name=id, own=found.user_id == caller.user)
    return found


async def touch(session: AsyncSession, id: UUID, *, size: int | None = None, stored: str | None = None) -> None:  # noqa: A002 - the API's word
    """It is still being worked on; with `size` its whole length is known now, with `stored` it is done."""
    known = {name: value for name, value in (("size", size), ("stored", stored)) if value is not None}
    await session.execute(update(Upload).where(Upload.id == id).values(touched_at=func.now(), **known))


async def remove(session: AsyncSession, id: UUID) -> None:  # noqa: A002 - the API's word
    await session.execute(delete(Upload).where(Upload.id == id))


async def abandon(session: AsyncSession, *, untouched_for: timedelta) -> Sequence[UUID]:
    statement = delete(Upload).where(Upload.touched_at < func.now() - untouched_for)
    return (await session.execute(statement.returning(Upload.id))).scalars().all()


class Partials:
    """The files, in a folder that all registries of an installation should share: else an upload is only known to the
    one that began it, and a client that meets another one begins anew."""

    def __init__(self, folder: Path, store: BlobStore) -> None:
        self._folder = folder / "uploads"
        self._store = store

    async def open(self) -> None:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)

    async def create(self, id: UUID) -> None:  # noqa: A002 - the API's word
        await asyncio.to_thread(self._path(id).touch, mode=0o600, exist_ok=False)

    async def offset(self, id: UUID) -> int:  # noqa: A002 - the API's word
        """How far it has come. Raises NotFound where its file is not."""
        try:
            return (await asyncio.to_thread(self._path(id).stat)).st_size
        except FileNotFoundError:
            raise NotFound.named("upload", id) from None

    async def append(
        self,
        id: UUID,  # noqa: A002 - the API's word
        chunks: AsyncIterator[bytes],
        *,
        offset: int,
        most: int,
        over: MoorageError,
    ) -> int:
        """The offset afterwards. What came before an error stays. Raises OffsetMismatch, NotFound, `over` beyond
        `most`, Unavailable without space."""
        with no_space(self._folder):
            async for piece in batches(chunks):
                if offset + len(piece) > most:
                    raise over
                offset = await asyncio.to_thread(self._write, id, piece, offset)
        return offset

    @asynccontextmanager
    async def claimed(self, id: UUID) -> AsyncIterator[Path]:  # noqa: A002 - the API's word
        """The file, for whoever makes it a whole. Raises UploadBusy if somebody does already."""
        file = await asyncio.to_thread(self._open, id, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            await asyncio.to_thread(os.fsync, file.fileno())
            yield self._path(id)
        finally:
            file.close()

    async def discard(self, id: UUID) -> None:  # noqa: A002 - the API's word
        await asyncio.to_thread(self._path(id).unlink, missing_ok=True)

    async def sweep(self, *, older_than: timedelta) -> None:
        """Files whose rows are gone."""
        await asyncio.to_thread(self._sweep, time.time() - older_than.total_seconds())

    def _path(self, id: UUID) -> Path:  # noqa: A002 - the API's word
        return self._folder / id.hex

    def _open(self, id: UUID, lock: int) -> io.FileIO:  # noqa: A002 - the API's word
        try:
            file = io.FileIO(os.open(self._path(id), os.O_WRONLY | os.O_APPEND), "a")
        except FileNotFoundError:
            raise NotFound.named("upload", id) from None
        try:
            fcntl.flock(file, lock)
        except BlockingIOError:
            file.close()
            raise UploadBusy(f"Upload {id} is just being completed; ask for it again in a moment.") from None
        return file

    def _write(self, id: UUID, piece: bytes, offset: int) -> int:  # noqa: A002 - the API's word
        self._store.need(len(piece))
        file = self._open(id, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            stands = os.fstat(file.fileno()).st_size
            if stands != offset:
                raise OffsetMismatch(f"The upload stands at {stands}, not at {offset}.", offset=stands)
            write_all(file, piece)
        finally:
            file.close()
        return offset + len(piece)

    def _sweep(self, before: float) -> None:
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    file.unlink()
