"""Answers with the bytes of an artifact, whole or in ranges."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse

from services.registry.artifacts.store import BlobStore
from shared.errors import Unavailable
from shared.telemetry import get_logger

log = get_logger(__name__)

OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The bytes of the ranges in `Range`"},
    416: {"description": "The range is not within the bytes"},
}


class _Download(FileResponse):
    chunk_size = 1 << 20  # each is a visit to a thread


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
