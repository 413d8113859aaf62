"""Answers with the bytes of an artifact, whole or in one range, that never end well with wrong bytes.

A whole pull is hashed as it is sent, and its last piece leaves only when the digest is right: otherwise the connection
is broken off short of its Content-Length, and every later pull is refused until the bytes are uploaded again. Before a
part is sent the whole is hashed, once for as long as the storage says that nothing about it has changed.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import StreamingResponse

from services.registry.artifacts import commands
from services.registry.artifacts.hashes import check_of
from services.registry.artifacts.storage import FolderStorage, Kept, Storage
from shared.database import Sessions
from shared.errors import NotFound, RangeNotSatisfiable, Unavailable
from shared.http import described
from shared.http.problems import raises
from shared.schema import Blob
from shared.telemetry import get_logger

log = get_logger(__name__)

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_PART = {"Content-Range": {"description": "Which bytes these are, of how many.", "schema": {"type": "string"}}}
OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes", "content": _BYTES, "headers": described("ETag")},
    206: {
        "description": "The bytes of the range in `Range`",
        "content": _BYTES,
        "headers": {**described("ETag"), **_PART},
    },
    **raises(RangeNotSatisfiable),
}

_RANGE = re.compile(r"bytes=(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))\s*")
_REMEMBERED = 10_000


class Damaged(Exception):
    """The bytes are not those that were uploaded. Raised within an answer that has begun, it breaks that off."""


@dataclass(frozen=True)
class Pulls:
    """How uploaded bytes leave. `_whole` remembers which ones were found to be right."""

    storage: Storage
    sessions: Sessions
    _whole: OrderedDict[tuple[str, str], None]

    @classmethod
    def of(cls, storage: Storage, sessions: Sessions) -> "Pulls":
        return cls(storage, sessions, OrderedDict())

    async def answer(self, blob: Blob, request: Request) -> StreamingResponse:
        """Raises Unavailable rather than serve damaged bytes, RangeNotSatisfiable for a range that they do not have."""
        place, found = blob.place, None
        try:
            found = await self.storage.find(place) if place else None
        except OSError as error:
            raise _away() from error
        if place is None or found is None or found.size != blob.size:
            log.error("blob.damaged", digest=blob.digest, size=blob.size, found=found and found.size)
            raise _damaged(blob.digest)
        headers = {"ETag": f'"{blob.digest}"', "Cache-Control": "private, max-age=31536000, immutable"}
        span = _span(request, size=blob.size, etag=headers["ETag"])
        try:
            if span is None:
                body = await _begun(self._checked(blob, place, found))
            else:
                await self._check(blob, place, found)
                body = await _begun(self.storage.read(place, start=span[0], end=span[1]))
        except Damaged:
            raise _damaged(blob.digest) from None
        except FileNotFoundError:
            raise NotFound.named("artifact", blob.digest) from None  # it has just been collected
        except OSError as error:
            raise _away() from error
        return _answer(body, headers, size=blob.size, span=span, name=blob.digest.partition(":")[2])

    async def _check(self, blob: Blob, place: str, found: Kept) -> None:
        if (place, found.mark) not in self._whole:
            async for _ in self._checked(blob, place, found):
                pass

    async def _checked(self, blob: Blob, place: str, found: Kept) -> AsyncIterator[bytes]:
        """All bytes; raises Damaged before the last of them unless they are right."""
        hasher, expected = check_of(blob)
        held = b""
        async for chunk in self.storage.read(place, start=0, end=blob.size):
            # The piece before is on its way while this one is hashed.
            hashing = asyncio.ensure_future(asyncio.to_thread(hasher.update, chunk))
            try:
                if held:
                    yield held
            finally:
                await hashing
            held = chunk
        if hasher.hexdigest() != expected:
            log.error("blob.damaged", digest=blob.digest, place=place)
            async with self.sessions.begin() as session:
                await commands.damaged(session, blob.digest, place=place)
            raise Damaged(blob.digest)
        self._whole[place, found.mark] = None
        if len(self._whole) > _REMEMBERED:
            self._whole.popitem(last=False)
        yield held


async def file(path: Path, request: Request) -> StreamingResponse:
    """One on the server, as it is now: it has no digest to be checked against."""
    folder = FolderStorage(path.parent)
    found = await folder.find(path.name)
    if found is None:
        raise NotFound.named("file", path.name)
    etag = f'"{hashlib.sha256(found.mark.encode()).hexdigest()[:32]}"'
    span = _span(request, size=found.size, etag=etag)
    start, end = span or (0, found.size)
    try:
        body = await _begun(folder.read(path.name, start=start, end=end))
    except OSError as error:
        raise NotFound.named("file", path.name) from error
    return _answer(body, {"ETag": etag}, size=found.size, span=span, name=path.name)


async def _begun(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes. What goes wrong before the first of them is raised here, where there is no answer yet."""
    first = await anext(body, b"")

    async def all_of_it() -> AsyncIterator[bytes]:
        yield first
        async for chunk in body:
            yield chunk

    return all_of_it()


def _span(request: Request, *, size: int, etag: str) -> tuple[int, int] | None:
    """The range that is asked for, from … to before …; None for all. What is malformed, or several, is ignored."""
    if request.headers.get("if-range", etag) != etag:
        return None
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None:
        return None
    first, last, suffix = match.groups()
    start, end = (max(0, size - int(suffix)), size) if suffix else (int(first), min(size, int(last or size) + 1))
    if not suffix and last and int(last) < int(first):
        return None
    if start >= size or start >= end:
        raise RangeNotSatisfiable(f"The range is not within the bytes, of which there are {size}.", size=size)
    return start, end


def _answer(
    body: AsyncIterator[bytes], headers: dict[str, str], *, size: int, span: tuple[int, int] | None, name: str
) -> StreamingResponse:
    start, end = span or (0, size)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        body, status_code=206 if span else 200, headers=headers, media_type="application/octet-stream"
    )


def _damaged(digest: str) -> Unavailable:
    return Unavailable(f"The bytes of {digest} are not in the registry's storage as they were uploaded.")


def _away() -> Unavailable:
    return Unavailable("The registry's storage cannot be reached.", retry_after=10)
