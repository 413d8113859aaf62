"""Unpack a model's archive into a folder, trusting nothing in it.

Only regular files and folders come out, each inside the folder, each once; the number of entries and the bytes written
are bounded while unpacking, whatever the archive claims.  Modes, owners and times are not taken over.  tarfile's own
`filter=` is not used: Debian 12's Python 3.11.2 does not have it.
"""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

READ_LIMIT = 16 << 20
"""Bytes that a tar may want at once, for a header: a bomb would ask for gigabytes."""

_CHUNK = 1 << 20
_XZ_MEMORY = 256 << 20
"""Most bytes that unpacking .xz may take: `xz -9` asks for 65 MiB."""
_XZ_MEMORY_EXCEEDED = "Memory usage limit exceeded"
"""How lzma says so; it has no class of its own for it."""
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of every zip tool; what unpacks the others may take any amount of memory."""


class Refused(Exception):
    """The archive is broken or holds what no model needs."""


def unpack(archive: Path, into: Path, *, entries_limit: int, bytes_limit: int) -> bool:
    """Unpack into the empty folder `into`; False if this is no archive.  Raises Refused, or OSError of the disk."""
    writer = _Writer(into, entries_limit=entries_limit, bytes_limit=bytes_limit)
    with archive.open("rb") as file:
        # zipfile.is_zipfile looks at the end of the file, and takes a tar for a zip if its last member is one.
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    with _refusing():
        if zipped:
            _unpack_zip(archive, writer)
        elif _is_tar(archive):
            _unpack_tar(archive, writer)
        else:
            return False
    if not writer.files:
        raise Refused("the archive holds no file")
    return True


class _Writer:
    """The folder that is filled, and the account of what it may still take."""

    def __init__(self, root: Path, *, entries_limit: int, bytes_limit: int) -> None:
        self.files = 0
        self._root = root
        self._entries_left = entries_limit
        self._entries_limit = entries_limit
        self._bytes_left = bytes_limit
        self._bytes_limit = bytes_limit

    def folder(self, name: str) -> None:
        """Make a folder; archives may name one more than once."""
        path = self._place(name)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"{name!r} is both a file and a folder") from None

    def file(self, name: str, content: Iterator[bytes]) -> None:
        """Write a file that is not there yet."""
        path = self._place(name)
        if path == self._root:
            raise Refused(f"{name!r} is not a file's name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for chunk in content:
                    self._bytes_left -= len(chunk)
                    if self._bytes_left < 0:
                        raise Refused(f"it unpacks to more than {self._bytes_limit} bytes")
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())  # what is moved into place must survive a power cut as a whole
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise Refused(f"{name!r} is there twice") from None
        self.files += 1

    def _place(self, name: str) -> Path:
        self._entries_left -= 1
        if self._entries_left < 0:
            raise Refused(f"it has more than {self._entries_limit} entries")
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise Refused(f"the name {name!r} leads out of the folder")
        return self._root / pure


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.flag_bits & 0x1:
                raise Refused(f"{entry.filename!r} is encrypted")
            if entry.compress_type not in _ZIP_METHODS:
                raise Refused(f"{entry.filename!r} is neither stored nor deflated")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{entry.filename!r} is neither a file nor a folder")
            if entry.is_dir():
                writer.folder(entry.filename)
            else:
                with file.open(entry) as content:
                    writer.file(entry.filename, _chunks(content))


def _is_tar(archive: Path) -> bool:
    """Whether it begins with a tar's header; what is compressed and not a tar is a single file.

    Not `tarfile.open`, to which a file that begins with zeros is an empty tar.
    """
    with _decompressed(archive) as plain:
        try:
            block = plain.read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        except (tarfile.HeaderError, EOFError, OSError, lzma.LZMAError, zlib.error):
            return False
    return True


def _unpack_tar(archive: Path, writer: _Writer) -> None:
    with _decompressed(archive) as plain, tarfile.open(fileobj=_Bounded(plain), mode="r:") as file:
        for member in file:
            if member.isdir():
                writer.folder(member.name)
            elif member.isreg():
                content = file.extractfile(member)
                assert content is not None
                writer.file(member.name, _chunks(content))
            else:
                raise Refused(f"{member.name!r} is neither a file nor a folder")


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive))
    if start.startswith(b"BZh"):
        return bz2.open(archive)
    if start.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(_Xz(archive.open("rb")))
    return archive.open("rb")


class _Xz(io.RawIOBase):
    """lzma.LZMAFile with a bound on the memory: an .xz says how much its reader has to hold, up to 4 GiB."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self._ended = False
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """To a place from the start: forward by reading, back by beginning anew."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._at:
            self._file.seek(0)
            self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            self._ended = False
            self._at = 0
        while self._at < offset and (plain := self._next(min(_CHUNK, offset - self._at))):
            self._at += len(plain)
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        plain = self._next(len(buffer))
        buffer[: len(plain)] = plain
        self._at += len(plain)
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


class _Bounded(io.RawIOBase):
    """A file for tarfile that refuses to read very much at once: tarfile reads headers whole, however long."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= READ_LIMIT:
            raise Refused(f"it has a header of more than {READ_LIMIT} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        yield chunk


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Whatever the libraries raise about an archive is a Refused; the disk's own errors stay what they are."""
    try:
        yield
    except Refused:
        raise
    except OSError as error:
        if error.errno not in (None, errno.ENAMETOOLONG, errno.EILSEQ):
            raise
        raise Refused(f"it is broken: {error}") from error
    except Exception as error:
        raise Refused(f"it is broken: {type(error).__name__}: {error}") from error
