"""Examines an uploaded archive without unpacking it: what a replica could not unpack, or should not, is refused here.

Kept in step with `modelserver/archives.py`, which trusts nothing either when it unpacks. Read once from start to end in
constant memory: every byte is decompressed and counted, whatever the archive claims, and its checksums are verified.
What begins like no archive is a single file, and is not looked into. Blocking: call it in a thread.
"""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from services.registry.artifacts import example

__all__ = ["Content", "Limits", "Refused", "examine"]

Kind = Literal["file", "tar", "zip"]

_CHUNK = 1 << 20
_XZ_MEMORY = 256 << 20
"""Most bytes that unpacking .xz may take: `xz -9` asks for 65 MiB."""
_XZ_MEMORY_EXCEEDED = "Memory usage limit exceeded"
"""How lzma says so; it has no class of its own for it."""
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of every zip tool; what unpacks the others may take any amount of memory."""
_HEADER_LIMIT = 16 << 20
"""Most bytes that a header or directory may have: the libraries read them whole."""
_LONGEST_NAME = 1024
_LONGEST_PART = 255
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and bytes that are no UTF-8 (they come as surrogates)."""


class Refused(Exception):
    """Says what is wrong with the archive."""


@dataclass(frozen=True)
class Limits:
    """`ratio` bounds unpacked against packed bytes, once more than `ratio_from` bytes are unpacked."""

    unpacked: int
    entries: int = 100_000
    ratio: int = 200
    ratio_from: int = 256 << 20


@dataclass(frozen=True)
class Content:
    """`example` is the request in the archive's `example.json`, if there is one to keep."""

    kind: Kind
    example: dict[str, Any] | None = None


def examine(path: Path, limits: Limits) -> Content:
    """What it is. Raises Refused, or OSError of the disk."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        account = _Account(limits, packed=path.stat().st_size)
        with _refusing():
            # By the start: a search from the end (zipfile.is_zipfile) takes a tar that ends in a zip for one.
            if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                _examine_zip(file, account)
                kind: Kind = "zip"
            elif _begins_as_tar(_decompressed(file, start)):
                file.seek(0)
                _examine_tar(_decompressed(file, start), account)
                kind = "tar"
            else:
                return Content("file")
            account.close()
            return Content(kind, account.example())


def _is_sane(path: PurePosixPath) -> bool:
    """Whether every file system takes the name."""
    if _UNSPEAKABLE.search(str(path)):
        return False
    lengths = [len(part.encode()) for part in path.parts]
    return max(lengths, default=0) <= _LONGEST_PART and sum(lengths) + len(lengths) <= _LONGEST_NAME


class _Account:
    """What has been seen, against the limits."""

    def __init__(self, limits: Limits, *, packed: int) -> None:
        self._limits = limits
        self._most = max(limits.ratio_from, limits.ratio * packed)
        self._names: dict[PurePosixPath, bool] = {}
        self.examples = example.Candidates()
        self._unpacked = 0
        self._entries = 0
        self._files = 0

    def entry(self, name: str, *, folder: bool) -> None:
        """Raises Refused for a name that leads out of the folder, that no file system takes, or that is there twice."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise Refused(f"it has more than {self._limits.entries} entries")
        shown = ascii(name[:100])
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not name:
            raise Refused(f"the name {shown} leads out of the folder")
        if not _is_sane(pure):
            raise Refused(f"{shown} is not a name that every file system takes")
        known = self._names.get(pure)
        if known is not None and not (known and folder):
            raise Refused(f"{shown} is there twice")
        if pure == PurePosixPath() and not folder:
            raise Refused(f"{shown} is not a file's name")
        self._names[pure] = folder
        self._files += not folder

    def bytes(self, count: int) -> None:
        self._unpacked += count
        if self._unpacked > self._limits.unpacked:
            raise Refused(f"it unpacks to more than {self._limits.unpacked} bytes")
        if self._unpacked > self._most:
            raise Refused(f"it unpacks to more than {self._limits.ratio} times its size")

    def example(self) -> dict[str, Any] | None:
        return self.examples.choose(self._names)

    def close(self) -> None:
        """The whole has been seen. Raises Refused if it does not hold together."""
        if not self._files:
            raise Refused("it holds no file")
        for pure in self._names:
            for parent in pure.parents:
                if self._names.get(parent) is False:
                    raise Refused(f"{str(parent)[:100]!a} is both a file and a folder")


def _examine_zip(file: IO[bytes], account: _Account) -> None:
    with zipfile.ZipFile(cast(IO[bytes], _Bounded(file))) as archive:
        entries = archive.infolist()
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            # zipfile cuts a name at its first NUL.
            account.entry(entry.orig_filename, folder=entry.is_dir())
            if entry.flag_bits & 0x1:
                raise Refused(f"{entry.filename[:100]!a} is encrypted")
            if entry.compress_type not in _ZIP_METHODS:
                raise Refused(f"{entry.filename[:100]!a} is neither stored nor deflated")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{entry.filename[:100]!a} is neither a file nor a folder")
        for entry in entries:
            if not entry.is_dir():
                path = PurePosixPath(entry.filename)
                with archive.open(entry) as content:
                    if account.examples.wants(path, entry.file_size):
                        account.examples.add(path, text := content.read(entry.file_size))
                        account.bytes(len(text))
                    while chunk := content.read(_CHUNK):
                        account.bytes(len(chunk))


def _begins_as_tar(plain: IO[bytes]) -> bool:
    """Whether it begins with a tar's header; what is compressed and not a tar is a single file."""
    try:
        block = plain.read(tarfile.BLOCKSIZE)
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except (tarfile.HeaderError, EOFError, OSError, lzma.LZMAError, zlib.error):
        return False
    return True


def _examine_tar(plain: IO[bytes], account: _Account) -> None:
    stream = _Forward(plain, account)
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        for member in archive:
            account.entry(member.name, folder=member.isdir())
            if not (member.isreg() or member.isdir()):
                raise Refused(f"{member.name[:100]!a} is neither a file nor a folder")
            path = PurePosixPath(member.name)
            if member.issparse():
                account.bytes(member.size)
            elif account.examples.wants(path, member.size) and (content := archive.extractfile(member)):
                account.examples.add(path, content.read())
    stream.drain()


def _decompressed(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(_Xz(file))
    return file


def _bounded(size: int) -> int:
    """How much to read for a library that asks for `size` bytes, or for all there are."""
    if size > _HEADER_LIMIT:
        raise Refused(f"it has a header of more than {_HEADER_LIMIT} bytes")
    return _HEADER_LIMIT if size < 0 else size


class _Xz(io.RawIOBase):
    """lzma.LZMAFile with a bound on the memory: an .xz says how much its reader has to hold, up to 4 GiB."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        plain = self._next(len(buffer))
        buffer[: len(plain)] = plain
        return len(plain)

    def _next(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. What follows the last stream and is none is ignored, as lzma does."""
        while not self._ended:
            if self._stream.eof:
                packed = self._stream.unused_data or self._file.read(_CHUNK)
                if not packed:
                    break
                self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
                try:
                    plain = self._decompress(packed, size)
                except lzma.LZMAError:
                    break
            else:
                packed = self._file.read(_CHUNK) if self._stream.needs_input else b""
                if self._stream.needs_input and not packed:
                    raise EOFError("it ends within a stream")
                plain = self._decompress(packed, size)
            if plain:
                return plain
        self._ended = True
        return b""

    def _decompress(self, packed: bytes, size: int) -> bytes:
        try:
            return self._stream.decompress(packed, size)
        except lzma.LZMAError as error:
            if str(error) != _XZ_MEMORY_EXCEEDED:
                raise
            raise Refused(f"its xz compression needs more than {_XZ_MEMORY >> 20} MiB of memory to unpack") from None


class _Bounded:
    """A file for zipfile, which reads an archive's directory whole, however long it claims to be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        return self._file.read(_bounded(size))


class _Forward:
    """A decompressed stream for tarfile, which seeks over what it does not read: forward by reading and counting, and
    back by the one byte with which tarfile looks whether the archive goes on."""

    def __init__(self, plain: IO[bytes], account: _Account) -> None:
        self._plain = plain
        self._account = account
        self._at = 0
        self._last = b""
        self._back = False

    def tell(self) -> int:
        return self._at - self._back

    def read(self, size: int = -1) -> bytes:
        size = _bounded(size)
        if self._back and size:
            self._back = False
            return self._last + self._take(size - 1)
        return self._take(size)

    def seek(self, offset: int) -> int:
        if offset == self._at - 1:
            self._back = True
            return offset
        if offset < self._at:
            raise Refused("its entries overlap")
        self._back = False
        while self._at < offset and self._take(min(_CHUNK, offset - self._at)):
            pass
        return self._at

    def drain(self) -> None:
        """To the end, where the compression's checksum is."""
        while self._take(_CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        taken = self._plain.read(size)
        self._account.bytes(len(taken))
        self._at += len(taken)
        self._last = taken[-1:] or self._last
        return taken


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever the libraries raise about an archive is a Refused; the disk's own errors stay what they are."""
    try:
        yield
    except Refused:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise Refused(f"it is broken: {error}") from error
    except Exception as error:
        raise Refused(f"it is broken: {type(error).__name__}: {error}") from error
