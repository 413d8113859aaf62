"""Reads some files out of an archive that was examined when it was uploaded. Blocking: call it in a thread."""

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["pick"]

Wanted = Callable[[PurePosixPath, int], bool]
"""Whether the content of this file, of so many bytes, is wanted."""


def pick(archive: Path, wanted: Wanted, *, most: int) -> dict[PurePosixPath, bytes]:
    """Path → content of those, in the archive's order, at most `most` bytes together. Raises ValueError for what is no
    archive, or when that is too much."""
    found: dict[PurePosixPath, bytes] = {}
    total = 0
    try:
        for path, content in _entries(archive, wanted):
            total += len(content)
            if total > most:
                raise ValueError(f"holds more than {most} bytes of what would be read")
            found[path] = content
    except (tarfile.TarError, zipfile.BadZipFile, EOFError):
        raise ValueError("is no archive; pack the folder as tar or zip") from None
    return found


def _entries(archive: Path, wanted: Wanted) -> Iterator[tuple[PurePosixPath, bytes]]:
    with archive.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"  # by the start, as when it was examined
    if is_zip:
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                path = PurePosixPath(entry.filename)
                if not entry.is_dir() and wanted(path, entry.file_size):
                    yield path, packed.read(entry)
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            path = PurePosixPath(member.name)
            if member.isreg() and wanted(path, member.size) and (content := packed.extractfile(member)):
                yield path, content.read()
