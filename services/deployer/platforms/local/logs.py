"""Reading the rotated log of one run while the shim goes on writing it.

`out.log` is the newest file, `out.log.1` the one before. The shim writes whole lines, each in one write. A file is
known by its inode, so a rotation in the middle neither loses nor repeats a line.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

POLL = 0.1
BATCH = 1000  # lines between two turns of the event loop


def last_lines(run: Path, count: int) -> list[str]:
    """The last lines of a run that has ended."""
    lines: list[str] = []
    for path in reversed(_paths(run)):
        if len(lines) < count:
            lines = path.read_text(errors="replace").splitlines()[len(lines) - count :] + lines
    return lines


async def read(
    run: Path, *, tail: int | None, since: datetime | None, ended: Callable[[], bool] | None
) -> AsyncIterator[str]:
    """The lines of a run; with `ended`, go on until that holds and all has been read."""
    start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if since else ""
    async with aclosing(_all(run, tail=tail, ended=ended)) as lines:
        async for line in lines:
            if line >= start:
                yield line


async def _all(run: Path, *, tail: int | None, ended: Callable[[], bool] | None) -> AsyncGenerator[str]:
    files = _open(run)
    try:
        if tail is not None:
            for line in await asyncio.to_thread(_tail, files, tail):
                yield line
        while True:
            done = ended is None or ended()  # asked before the last look: nothing is written after it
            count = 0
            for count, line in enumerate(_lines(files[0]) if files else (), start=1):
                yield line
                if count % BATCH == 0:
                    await asyncio.sleep(0)
            if len(files) > 1:
                files.pop(0).close()
            elif newer := _newer(run, files):
                files.extend(newer)
            elif done:
                return
            elif count == 0:
                await asyncio.sleep(POLL)
    finally:
        for file in files:
            file.close()


def _paths(run: Path) -> list[Path]:
    """The files of a run's log, oldest first."""
    return sorted(run.glob("out.log*"), key=lambda path: -int(path.suffix.removeprefix(".log")[1:] or 0))


def _open(run: Path) -> list[BufferedReader]:
    """All of them, as they were at one moment."""
    while True:
        files: list[BufferedReader] = []
        try:
            paths = _paths(run)
            files.extend(path.open("rb") for path in paths)
            if all(_inode(file) == path.stat().st_ino for file, path in zip(files, paths, strict=True)):
                return files
        except FileNotFoundError:
            pass
        for file in files:  # a rotation came in between
            file.close()


def _newer(run: Path, files: list[BufferedReader]) -> list[BufferedReader]:
    """What has come after the file being read; all there is when that one has been rotated away."""
    try:
        latest = (run / "out.log").stat().st_ino
    except FileNotFoundError:
        return []
    if files and _inode(files[0]) == latest:
        return []
    found = _open(run)
    inodes = [_inode(file) for file in found]
    seen = inodes.index(_inode(files[0])) + 1 if files and _inode(files[0]) in inodes else 0
    for file in found[:seen]:
        file.close()
    return found[seen:]


def _inode(file: BufferedReader) -> int:
    return os.fstat(file.fileno()).st_ino


def _lines(file: BufferedReader) -> Iterator[str]:
    """The whole lines from here on."""
    while (raw := file.readline()).endswith(b"\n"):
        yield raw[:-1].decode("utf-8", "replace")
    file.seek(-len(raw), os.SEEK_CUR)


def _tail(files: list[BufferedReader], count: int) -> list[str]:
    """The last `count` lines. All of `files` but the newest are done with then."""
    lines: list[str] = []
    for file in reversed(files):
        if len(lines) < count:
            lines = [*deque(_lines(file), maxlen=count - len(lines)), *lines]
    for file in files[:-1]:
        file.close()
    del files[:-1]
    return lines
