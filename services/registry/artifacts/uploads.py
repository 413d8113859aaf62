"""`/artifacts/uploads`: uploads that survive broken connections.

The protocol is the IETF's (draft-ietf-httpbis-resumable-upload, which tus became): `PATCH` appends at `Upload-Offset`,
`HEAD` says how far it has come, `Upload-Complete: ?1` says that this was the last. Of the draft's, one thing is left
out: the 104 answer that would turn any POST into a resumable one, since ASGI servers cannot send it; so one begins
here.
"""

import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from services.registry.artifacts import partials
from services.registry.artifacts.admission import admit
from services.registry.artifacts.api import announced_digest
from services.registry.artifacts.domain import registry_uri
from services.registry.artifacts.partials import Partials
from services.registry.artifacts.queries import find as find_blob
from services.registry.artifacts.schemas import ArtifactView, UploadView
from services.registry.artifacts.store import BlobStore
from services.registry.errors import BadArchive, DigestMismatch, OffsetMismatch, UploadBusy, UploadComplete
from shared.errors import BadRequest, MoorageError, TooLarge, ValidationFailed
from shared.http import CurrentCaller, CurrentUnit, TransactionRoute, Unit
from shared.http.problems import raises, render
from shared.schema import Upload
from shared.service import Core

router = APIRouter(route_class=TransactionRoute, prefix="/artifacts/uploads", tags=["artifacts"])

MEDIA_TYPE = "application/partial-upload"

UploadId = Annotated[UUID, Path(description="of the upload", examples=["0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"])]
Complete = Annotated[
    str | None,
    Header(alias="Upload-Complete", pattern=r"^\?[01]$", description="?1: these are the last bytes", examples=["?1"]),
]
Length = Annotated[
    int | None, Header(alias="Upload-Length", ge=0, le=2**62, description="bytes of the whole", examples=[1048576])
]
Offset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, le=2**62, description="where these bytes begin", examples=[524288])
]
_PROGRESS = {
    "Upload-Offset": {"description": "Bytes that have arrived.", "schema": {"type": "integer", "examples": [524288]}},
    "Upload-Complete": {"description": "`?1`: the upload has become an artifact.", "schema": {"type": "string"}},
}
_LIMITS = {
    **_PROGRESS,
    "Upload-Limit": {"description": "Most bytes: `max-size=…`.", "schema": {"type": "string"}},
    "Upload-Length": {"description": "Bytes of the whole, if announced.", "schema": {"type": "integer"}},
}
_NUMBER = re.compile(r"[0-9]{1,19}")

_PIECE: dict[str, Any] = {
    "requestBody": {
        "description": f"the bytes that come next, may be none; also as {MEDIA_TYPE}, the draft's type",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "", status_code=201, summary="Begin a resumable upload", responses={201: {"headers": _LIMITS}, **raises(TooLarge)}
)
async def begin_upload(
    *,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    upload_length: Length = None,
    digest: Annotated[str | None, Query(max_length=100, description="SHA-256 that the bytes must have")] = None,
    dry_run: Annotated[bool, Query(include_in_schema=False)] = False,
) -> UploadView:
    """The bytes follow by `PATCH` to the address in `Location`; an upload that is
    not gone on with is removed after a day (a setting)."""
    _no_dry_run(dry_run)
    store = _store(request)
    if upload_length is not None and upload_length > store.upload_limit:
        raise store.too_large()
    announced = announced_digest(digest, request.headers.get("x-content-sha256"))
    made = await partials.begin(unit.session, user=caller.user, size=upload_length, digest=announced)
    await _partials(request).create(made.id)
    response.headers["Location"] = f"/api/v1/artifacts/uploads/{made.id}"
    response.headers.update(_progress(made, offset=0, limit=store.upload_limit))
    return _view(made, offset=0, artifact=None)


@router.head(
    "/{upload}",
    status_code=204,
    summary="How far an upload has come",
    response_class=Response,
    responses={204: {"description": "The headers say it", "headers": _LIMITS}},
)
async def upload_progress(*, upload: UploadId, request: Request, caller: CurrentCaller, unit: CurrentUnit) -> Response:
    """Go on from `Upload-Offset`."""
    found = await partials.find(unit.session, upload, caller=caller)
    offset = await _offset(request, found)
    return Response(status_code=204, headers=_progress(found, offset=offset, limit=_store(request).upload_limit))


@router.get("/{upload}", summary="Get an upload", responses={200: {"headers": _LIMITS}})
async def get_upload(
    *, upload: UploadId, request: Request, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> UploadView:
    """The same as JSON, and what it has become once it is complete."""
    found = await partials.find(unit.session, upload, caller=caller)
    offset = await _offset(request, found)
    response.headers.update(_progress(found, offset=offset, limit=_store(request).upload_limit))
    return _view(found, offset=offset, artifact=await _stored(unit, found))


@router.patch(
    "/{upload}",
    summary="Send the next bytes of an upload",
    response_model=None,
    responses={
        201: {"model": ArtifactView, "description": "It is complete, examined and kept", "headers": _PROGRESS},
        204: {"description": "The bytes are kept; `Upload-Offset` says how far it has come", "headers": _PROGRESS},
        **raises(OffsetMismatch, UploadBusy, UploadComplete, BadArchive, DigestMismatch),
    },
    status_code=201,
    openapi_extra=_PIECE,
)
async def append_to_upload(
    *,
    upload: UploadId,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    upload_offset: Offset,
    upload_complete: Complete = None,
    upload_length: Length = None,
    dry_run: Annotated[bool, Query(include_in_schema=False)] = False,
) -> ArtifactView | Response:
    """At `Upload-Offset`, which must be where the upload stands (`offset_mismatch` says where that is). What has
    arrived when a connection breaks is kept. With `Upload-Complete: ?1` the whole is examined like any upload, and is
    gone if it is refused."""
    _no_dry_run(dry_run)
    kind = request.headers.get("content-type", MEDIA_TYPE).partition(";")[0].strip().lower()
    if kind not in (MEDIA_TYPE, "application/octet-stream"):
        raise ValidationFailed.of("header/Content-Type", f"must say {MEDIA_TYPE}")
    found = await partials.find(unit.session, upload, caller=caller)
    if found.stored is not None:
        raise UploadComplete("This upload is complete; its address is in the answer to GET.", digest=found.stored)
    size, announced = _whole_size(found, upload_length), found.digest
    await partials.touch(unit.session, upload, size=size)
    await unit.session.commit()  # an upload takes its time: no connection waits for it
    limit = _store(request).upload_limit if size is None else size
    try:
        offset = await _append(request, upload, offset=upload_offset, most=limit, announced=size)
        if upload_complete != "?1":
            headers = {"Upload-Offset": str(offset), "Upload-Complete": "?0"}
            return Response(status_code=204, headers=headers)
        if size is not None and offset != size:
            raise OffsetMismatch(f"The upload stands at {offset}, short of the {size} bytes announced.", offset=offset)
    except OffsetMismatch as error:
        refused = render(error)
        refused.headers["Upload-Offset"] = str(error.facts["offset"])
        return refused
    response.headers.update({"Upload-Offset": str(offset), "Upload-Complete": "?1"})
    return await _complete(request, unit, upload, announced=announced, user=caller.user)


@router.delete("/{upload}", status_code=204, summary="Give an upload up")
async def cancel_upload(*, upload: UploadId, request: Request, caller: CurrentCaller, unit: CurrentUnit) -> None:
    """What has arrived is removed. Of an upload that is complete, only the record: its bytes stay."""
    await partials.find(unit.session, upload, caller=caller)
    await partials.remove(unit.session, upload)
    await _partials(request).discard(upload)


async def _append(request: Request, upload: UUID, *, offset: int, most: int, announced: int | None) -> int:
    store = _store(request)
    over = store.too_large() if announced is None else _more_than(announced)
    length = request.headers.get("content-length", "")
    if _NUMBER.fullmatch(length) and offset + int(length) > most:
        raise over
    try:
        offset = await _partials(request).append(upload, request.stream(), offset=offset, most=most, over=over)
    except ClientDisconnect:
        raise BadRequest("The connection was broken off; what has arrived is kept.") from None
    stands = await _partials(request).offset(upload)
    if stands != offset:  # no bytes came to find it out by
        raise OffsetMismatch(f"The upload stands at {stands}, not at {offset}.", offset=stands)
    return offset


async def _complete(request: Request, unit: Unit, upload: UUID, *, announced: str | None, user: str) -> ArtifactView:
    store, files = _store(request), _partials(request)
    core: Core = request.app.state.core
    try:
        async with files.claimed(upload) as path:
            received = await store.examine(path, announced_digest=announced)
            await admit(unit.session, store.storage, received, user=user)
    except ValidationFailed:
        async with core.sessions.begin() as session:
            await partials.remove(session, upload)
        await files.discard(upload)
        raise
    await partials.touch(unit.session, upload, size=received.size, stored=received.digest)
    await unit.session.commit()
    await files.discard(upload)
    return ArtifactView(uri=registry_uri(received.digest), digest=received.digest, size=received.size)


async def _stored(unit: Unit, upload: Upload) -> ArtifactView | None:
    blob = await find_blob(unit.session, upload.stored, caller=None) if upload.stored else None
    if blob is None:
        return None
    return ArtifactView(uri=registry_uri(blob.digest), digest=blob.digest, size=blob.size)


async def _offset(request: Request, upload: Upload) -> int:
    return (upload.size or 0) if upload.stored else await _partials(request).offset(upload.id)


def _whole_size(upload: Upload, given: int | None) -> int | None:
    if upload.size is not None and given not in (None, upload.size):
        raise ValidationFailed.of("header/Upload-Length", f"differs from the {upload.size} that were announced")
    return upload.size if given is None else given


def _more_than(announced: int) -> MoorageError:
    return ValidationFailed.of("header/Upload-Length", f"more bytes came than the {announced} that were announced")


def _progress(upload: Upload, *, offset: int, limit: int) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if upload.stored else "?0",
        "Upload-Limit": f"max-size={limit}",
    }
    return headers if upload.size is None else {**headers, "Upload-Length": str(upload.size)}


def _view(upload: Upload, *, offset: int, artifact: ArtifactView | None) -> UploadView:
    return UploadView(
        id=str(upload.id), offset=offset, size=upload.size, complete=upload.stored is not None, artifact=artifact
    )


def _no_dry_run(dry_run: bool) -> None:
    if dry_run:
        raise ValidationFailed.of("query/dry_run", "is not offered here: the bytes would have to be stored")


def _store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.blobs
    return store


def _partials(request: Request) -> Partials:
    found: Partials = request.app.state.partials
    return found
