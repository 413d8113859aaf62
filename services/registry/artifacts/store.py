"""Bytes kept by their content in a folder: streamed in, examined, moved into place in one step, once.

    <folder>/incoming/<random>       uploads under way; each is locked as long as its process lives
    <folder>/sha256/<2 hex>/<hex>    what is kept

Nothing here knows a database. A file without a row in `blobs` is what a crash between the move and the commit has left:
harmless, since the same upload finds it again. All file work is done in threads.
"""

import asyncio
import errno
import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.registry.artifacts import archives
from services.registry.errors import BadArchive, DigestMismatch
from shared.errors import FieldProblem, TooLarge, Unavailable, ValidationFailed
from shared.telemetry import get_logger

log = get_logger(__name__)

_BATCH = 1 << 20
"""Bytes gathered before a thread is troubled with them."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Stored:
    digest: str
    size: int
    example: dict[str, Any] | None


class BlobStore:
    """One folder. Many processes may use it at once."""

    def __init__(self, folder: Path, *, upload_limit: int, unpacked_limit: int, free_space_floor: int) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._upload_limit = upload_limit
        self._floor = free_space_floor
        self._limits = archives.Limits(unpacked=unpacked_limit)
        # Examining is CPU work: at most two at once leave threads and cores for everybody else.
        self._examining = asyncio.Semaphore(2)

    async def open(self) -> None:
        """Make the folders, and remove uploads that died with their process."""
        await asyncio.to_thread(self._open)

    async def not_ready(self) -> str | None:
        writable = await asyncio.to_thread(os.access, self._incoming, os.W_OK)
        return None if writable else f"{self._incoming} cannot be written"

    def path(self, digest: str) -> Path:
        """Where the bytes of `sha256:<hex>` are, if they are here."""
        algorithm, _, name = digest.partition(":")
        return self._folder / algorithm / name[:2] / name

    async def add(
        self, chunks: AsyncIterator[bytes], *, announced_size: int | None, announced_digest: str | None
    ) -> Stored:
        """Take in an upload. Whatever goes wrong leaves nothing behind.

        Raises TooLarge, DigestMismatch, BadArchive, ValidationFailed for no bytes, Unavailable for a disk that is full,
        or would be down to the floor.
        """
        if announced_size is not None and announced_size > self._upload_limit:
            raise self._too_large()
        try:
            incoming = await asyncio.to_thread(_Incoming, self._incoming, floor=self._floor, expected=announced_size)
            try:
                await self._receive(chunks, incoming)
                digest = f"sha256:{incoming.hash.hexdigest()}"
                if announced_digest not in (None, digest):
                    raise DigestMismatch.of("", f"has the digest {digest}, not {announced_digest}")
                content = await self._examine(incoming)
                await asyncio.to_thread(incoming.keep, self.path(digest))
            finally:
                # Shielded: a cancelled upload must not leave its file either.
                await asyncio.shield(asyncio.to_thread(incoming.discard))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            log.exception("upload.no_space", folder=str(self._folder))
            raise Unavailable("The registry has no space left for this upload.", retry_after=60) from error
        return Stored(digest=digest, size=incoming.size, example=content.example)

    async def _receive(self, chunks: AsyncIterator[bytes], incoming: "_Incoming") -> None:
        gathered = bytearray()
        received = 0
        async for chunk in chunks:
            received += len(chunk)
            if received > self._upload_limit:
                raise self._too_large()
            gathered += chunk
            if len(gathered) >= _BATCH:
                await asyncio.to_thread(incoming.write, bytes(gathered))
                gathered.clear()
        if not received:
            raise ValidationFailed.of("", "is empty; send the bytes of a file or an archive as the body")
        await asyncio.to_thread(incoming.finish, bytes(gathered))

    async def _examine(self, incoming: "_Incoming") -> archives.Content:
        async with self._examining:
            try:
                return await asyncio.to_thread(archives.examine, incoming.path, self._limits)
            except archives.Refused as error:
                raise BadArchive([FieldProblem("", str(error))], f"The archive was refused: {error}.") from error

    def _too_large(self) -> TooLarge:
        return TooLarge(f"An upload has at most {self._upload_limit} bytes here.", limit=self._upload_limit)

    def _open(self) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            with suppress(OSError), left.open("rb") as file:
                # Whoever still writes it holds the lock.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


class _Incoming:
    """One upload on its way: a locked file of a random name, and the hash of what was written. Blocking."""

    def __init__(self, folder: Path, *, floor: int, expected: int | None) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self._folder = folder
        self._floor = floor
        self._need(expected or 0)
        while True:
            self.path = folder / uuid4().hex
            self._file = io.FileIO(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                break
            self._file.close()  # a process that has just started took it for one left by the dead

    def write(self, data: bytes) -> None:
        self._need(len(data))
        self.hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def finish(self, data: bytes) -> None:
        self.write(data)
        os.fsync(self._file.fileno())

    def keep(self, place: Path) -> None:
        """Move into place; the same bytes may be there already, and are then replaced by themselves."""
        place.parent.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o440)
        self.path.replace(place)
        _sync_folder(place.parent)

    def discard(self) -> None:
        """Remove what was not kept."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def _need(self, size: int) -> None:
        """The disk may be the database's too, which does not outlive a full one. Raises OSError."""
        if shutil.disk_usage(self._folder).free - size < self._floor:
            raise OSError(errno.ENOSPC, f"less than {self._floor} bytes would be left free", str(self._folder))


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
