"""Answers with the bytes of an artifact, whole or in ranges."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from services.registry.artifacts.store import BlobStore
from services.registry.parameters import problems
from shared.errors import Unavailable
from shared.telemetry import get_logger

log = get_logger(__name__)

OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The bytes of the ranges in `Range`"},
    **problems(416),
}


class _MalformedRange(Exception):
    """Starlette would answer 400."""


class _Download(FileResponse):
    """Bad ranges are answered as RFC 9110 has it, where Starlette answers them in plain text."""

    chunk_size = 1 << 20  # each is a visit to a thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def judged(message: Message) -> None:
            if message.get("status") == 400:
                raise _MalformedRange
            if message.get("status") == 416:
                size = Headers(raw=message["headers"])["content-range"]
                detail = f"The range is not within the bytes, of which there are {size.rpartition('/')[2]}."
                raise HTTPException(416, detail, headers={"Content-Range": size})
            await send(message)

        try:
            await super().__call__(scope, receive, judged)
        except _MalformedRange:  # is ignored
            headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
            await super().__call__({**scope, "headers": headers}, receive, send)


async def blob(store: BlobStore, digest: str, *, size: int) -> FileResponse:
    """The uploaded bytes, which never change. Raises Unavailable rather than serve damaged ones."""
    path = store.path(digest)
    found = await asyncio.to_thread(lambda: path.stat().st_size if path.is_file() else None)
    if found != size:
        log.error("blob.damaged", digest=digest, size=size, found=found)
        raise Unavailable(f"The bytes of {digest} are not in the registry's storage as they were uploaded.")
    headers = {"ETag": f'"{digest}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return _answer(path, headers, name=digest.partition(":")[2])


def file(path: Path) -> FileResponse:
    return _answer(path, {}, name=path.name)


def _answer(path: Path, headers: dict[str, str], *, name: str) -> FileResponse:
    headers["X-Content-Type-Options"] = "nosniff"
    return _Download(path, headers=headers, media_type="application/octet-stream", filename=name)
