"""Where finished bytes lie: a folder, or any object store. One small protocol, the same promises by both.

A place is a name that is used once and never again for other bytes. So removing one that no row names cannot hit bytes
that have just come anew, however late the removal is, and nothing here needs a lock. *Absent is success* when removing.
"""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

CHUNK = 1 << 20
"""Bytes read at once: each is a visit to a thread or to the network."""

_ROOT = "sha256"


@dataclass(frozen=True)
class Kept:
    """`mark` changes when anything about the bytes does, as far as the storage knows."""

    size: int
    mark: str


class Storage(Protocol):
    """Raises OSError when it cannot."""

    async def keep(self, file: Path, place: str) -> None:
        """Have the file's bytes durably at the place. The file may be gone afterwards."""

    async def find(self, place: str) -> Kept | None:
        """None: there is nothing."""

    def read(self, place: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`."""

    def local(self, place: str, *, spool: Path) -> AbstractAsyncContextManager[Path]:
        """As a file that may be read for as long as the context lasts; `spool` is a folder for one that has to be
        made."""

    async def remove(self, place: str) -> None: ...

    def places(self) -> AsyncIterator[tuple[str, datetime]]:
        """Everything that is kept, and since when."""

    async def not_ready(self) -> str | None: ...


def new_place(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    return f"{algorithm}/{name[:2]}/{name}.{uuid4().hex[:12]}"


class FolderStorage:
    """`file` is renamed into place, so it has to lie on the same file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, file: Path, place: str) -> None:
        await asyncio.to_thread(self._keep, file, self._folder / place)

    async def find(self, place: str) -> Kept | None:
        try:
            found = await asyncio.to_thread((self._folder / place).stat)
        except FileNotFoundError:
            return None
        return Kept(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_size}")

    async def read(self, place: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(io.FileIO, self._folder / place)
        reading = _reading(file, start, end)
        try:
            while True:
                await asyncio.wait((reading,))  # a pull that is cancelled leaves no thread that reads
                if not (chunk := reading.result()):
                    return
                start += len(chunk)
                reading = _reading(file, start, end)  # while this piece is used, the next one is read
                yield chunk
        finally:
            await asyncio.shield(asyncio.gather(reading, return_exceptions=True))
            file.close()

    @asynccontextmanager
    async def local(self, place: str, *, spool: Path) -> AsyncIterator[Path]:  # noqa: ARG002 - it is a file already
        yield self._folder / place

    async def remove(self, place: str) -> None:
        await asyncio.to_thread((self._folder / place).unlink, missing_ok=True)

    async def places(self) -> AsyncIterator[tuple[str, datetime]]:
        for folder in await asyncio.to_thread(lambda: sorted((self._folder / _ROOT).glob("??"))):
            for place, since in await asyncio.to_thread(lambda folder=folder: list(self._within(folder))):  # type: ignore[misc]  # mypy does not infer a lambda with defaults
                yield place, since

    async def not_ready(self) -> str | None:
        writable = await asyncio.to_thread(os.access, self._folder, os.W_OK)
        return None if writable else f"{self._folder} cannot be written"

    def _within(self, folder: Path) -> Iterator[tuple[str, datetime]]:
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                yield str(file.relative_to(self._folder)), since

    def _keep(self, file: Path, target: Path) -> None:
        for missing in [folder for folder in (target.parent, target.parent.parent) if not folder.exists()]:
            missing.mkdir(parents=True, exist_ok=True)
            _sync_folder(missing.parent)
        file.chmod(0o440)
        os.utime(file)  # since when it is kept
        file.replace(target)
        _sync_folder(target.parent)


def _reading(file: io.FileIO, start: int, end: int) -> asyncio.Future[bytes]:
    """The next piece; none at the end."""
    return asyncio.ensure_future(asyncio.to_thread(os.pread, file.fileno(), min(CHUNK, end - start), start))


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
