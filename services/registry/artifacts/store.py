"""Takes in uploads: streamed to a file, hashed on the way, bounded, examined. What comes of one is a `Received`, whose
file goes into the storage or is gone.

    <folder>/incoming/<random>   uploads under way; each is locked as long as its process lives
    <folder>/uploads/<id>        resumable ones (`partials`)
    <folder>/sha256/…            what is kept, if the storage is this folder (`storage`)

Nothing here knows a database. All file work is done in threads.
"""

import asyncio
import errno
import fcntl
import io
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.registry.artifacts import archives
from services.registry.artifacts.hashes import Hashes
from services.registry.artifacts.storage import CHUNK, Storage
from services.registry.errors import BadArchive, DigestMismatch
from shared.errors import FieldProblem, TooLarge, Unavailable, ValidationFailed
from shared.telemetry import get_logger

log = get_logger(__name__)

_UNFLUSHED = 64 << 20  # bytes that may wait to be flushed to the disk
_WRITTEN = 128 << 10
"""Bytes given to the kernel at once: for more it looks for memory in one piece, which takes long where there is little
(an upload of 512 MiB took up to 1.5 s instead of 0.65)."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Received:
    """An upload that is complete and acceptable. `path` is its file, for whoever keeps it."""

    path: Path
    digest: str
    blake3: str
    size: int
    example: dict[str, Any] | None


class BlobStore:
    """Many processes may use one folder at once."""

    def __init__(
        self, folder: Path, *, storage: Storage, upload_limit: int, unpacked_limit: int, free_space_floor: int
    ) -> None:
        self.storage = storage
        self.upload_limit = upload_limit
        self._folder = folder
        self._incoming = folder / "incoming"
        self._floor = free_space_floor
        self._limits = archives.Limits(unpacked=unpacked_limit)
        # Examining is CPU work: at most two at once leave threads and cores for everybody else.
        self._examining = asyncio.Semaphore(2)
        # A slow disk would hold all threads otherwise.
        self._flushing = asyncio.Semaphore(2)

    async def open(self) -> None:
        """Make the folders, and remove uploads that died with their process."""
        await asyncio.to_thread(self._open)

    async def not_ready(self) -> str | None:
        writable = await asyncio.to_thread(os.access, self._incoming, os.W_OK)
        return await self.storage.not_ready() if writable else f"{self._incoming} cannot be written"

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncIterator[bytes], *, announced_size: int | None, announced_digest: str | None
    ) -> AsyncIterator[Received]:
        """Take in an upload. At the end its file is gone, whatever has happened, unless it was moved away.

        Raises TooLarge, DigestMismatch, BadArchive, ValidationFailed for no bytes, Unavailable for a disk that is full,
        or would be down to the floor.
        """
        if announced_size is not None and announced_size > self.upload_limit:
            raise self.too_large()
        with no_space(self._folder):
            incoming = await asyncio.to_thread(_Incoming, self._incoming, floor=self._floor, expected=announced_size)
            try:
                await self._receive(chunks, incoming)
                yield await self._accept(incoming.path, incoming.hashes, incoming.size, announced_digest)
            finally:
                # Shielded: a cancelled upload must not leave its file either.
                await asyncio.shield(asyncio.to_thread(incoming.discard))

    async def examine(self, path: Path, *, announced_digest: str | None) -> Received:
        """A file that has come in parts."""
        hashes, size = await asyncio.to_thread(_hash, path)
        if not size:
            raise _no_bytes()
        return await self._accept(path, hashes, size, announced_digest)

    def local(self, place: str) -> AbstractAsyncContextManager[Path]:
        """What is kept there, as a file."""
        return self.storage.local(place, spool=self._incoming)

    def need(self, size: int) -> None:
        """The disk may be the database's too, which does not outlive a full one. Raises OSError. Blocking."""
        _need(self._folder, size, floor=self._floor)

    def too_large(self) -> TooLarge:
        return TooLarge(f"An upload has at most {self.upload_limit} bytes here.", limit=self.upload_limit)

    async def _receive(self, chunks: AsyncIterator[bytes], incoming: "_Incoming") -> None:
        received = flushed = 0
        nothing: asyncio.Future[object] = asyncio.ensure_future(asyncio.sleep(0))
        hashing = writing = flushing = nothing
        try:
            async for gathered in batches(chunks):
                received += len(gathered)
                if received > self.upload_limit:
                    raise self.too_large()
                # Not awaited by themselves: an upload that is cancelled must not leave a thread that writes.
                await asyncio.wait((hashing, writing))
                writing.result()
                # While it is hashed and written, the next one comes in; and while more comes in, what has come is
                # flushed: else the client would wait for all of that at the end.
                if flushing.done() and received - flushed > _UNFLUSHED and not self._flushing.locked():
                    flushing.result()
                    flushing, flushed = asyncio.ensure_future(self._flush(incoming)), received
                hashing = _in_thread(incoming.hashes.update, gathered)
                writing = _in_thread(incoming.write, gathered)
        finally:
            # Also of an upload that has failed: its file is removed next.
            ended = await asyncio.shield(asyncio.gather(hashing, writing, flushing, return_exceptions=True))
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        if not received:
            raise _no_bytes()
        await asyncio.to_thread(incoming.flush)

    async def _flush(self, incoming: "_Incoming") -> None:
        async with self._flushing:
            await asyncio.to_thread(incoming.flush)

    async def _accept(self, path: Path, hashes: Hashes, size: int, announced_digest: str | None) -> Received:
        digest = hashes.digest
        if announced_digest not in (None, digest):
            raise DigestMismatch.of("", f"has the digest {digest}, not {announced_digest}")
        async with self._examining:
            try:
                content = await asyncio.to_thread(archives.examine, path, self._limits)
            except archives.Refused as error:
                raise BadArchive([FieldProblem("", str(error))], f"The archive was refused: {error}.") from error
        return Received(path, digest, hashes.blake3, size, content.example)

    def _open(self) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            with suppress(OSError), left.open("rb") as file:
                # Whoever still writes it holds the lock.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces that are worth a visit to a thread. What came before an error comes before it."""
    gathered = bytearray()
    try:
        async for chunk in chunks:
            gathered += chunk
            if len(gathered) >= CHUNK:
                yield bytes(gathered)
                gathered.clear()
    except Exception:
        if gathered:
            yield bytes(gathered)
        raise
    if gathered:
        yield bytes(gathered)


class no_space:  # noqa: N801 - reads as what it is at the `with`
    """A full disk as Unavailable; other errors of the disk stay what they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            log.error("upload.no_space", folder=str(self._folder), error=str(error))
            raise Unavailable("The registry has no space left for this upload.", retry_after=60) from error


def _in_thread(work: Callable[..., object], *arguments: bytes) -> asyncio.Future[object]:
    return asyncio.ensure_future(asyncio.to_thread(work, *arguments))


class _Incoming:
    """One upload on its way: a locked file of a random name, and the hash of what was written. Blocking."""

    def __init__(self, folder: Path, *, floor: int, expected: int | None) -> None:
        self.hashes = Hashes()
        self.size = 0
        self._folder = folder
        self._floor = floor
        _need(folder, expected or 0, floor=floor)
        while True:
            self.path = folder / uuid4().hex
            self._file = io.FileIO(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                break
            self._file.close()  # a process that has just started took it for one left by the dead

    def write(self, data: bytes) -> None:
        _need(self._folder, len(data), floor=self._floor)
        self.size += len(data)
        write_all(self._file, data)

    def flush(self) -> None:
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Remove what was not kept."""
        self.path.unlink(missing_ok=True)
        self._file.close()


def write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view[:_WRITTEN]) :]


def _need(folder: Path, size: int, *, floor: int) -> None:
    if shutil.disk_usage(folder).free - size < floor:
        raise OSError(errno.ENOSPC, f"less than {floor} bytes would be left free", str(folder))


def _hash(path: Path) -> tuple[Hashes, int]:
    hashes = Hashes()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            hashes.update(piece)
        return hashes, file.tell()


def _no_bytes() -> ValidationFailed:
    return ValidationFailed.of("", "is empty; send the bytes of a file or an archive as the body")
