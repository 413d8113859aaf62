"""`/artifacts`, `/artifacts/{digest}`."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from services.registry.artifacts import download, queries
from services.registry.artifacts.admission import admit
from services.registry.artifacts.domain import DIGEST, PULL, link_is_good, parse_digest, registry_uri
from services.registry.artifacts.fetching import Fetcher
from services.registry.artifacts.schemas import ArtifactView, FetchRequest
from services.registry.artifacts.store import BlobStore, Received
from services.registry.errors import BadArchive, DigestMismatch, FetchFailed
from shared.errors import BadRequest, InvalidToken, NotFound, ValidationFailed
from shared.http import CurrentCaller, CurrentUnit, TransactionRoute
from shared.http.auth import authenticate
from shared.http.problems import raises

router = APIRouter(route_class=TransactionRoute, prefix="/artifacts", tags=["artifacts"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "the bytes of a file, or of a tar (.gz, .bz2, .xz) or zip archive",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_BY_LINK_OR_TOKEN: dict[str, Any] = {"security": [{}, {"HTTPBearer": []}]}


@router.post(
    "",
    status_code=201,
    summary="Upload the bytes of a model",
    responses=raises(BadArchive, DigestMismatch),
    openapi_extra=_BODY,
)
async def upload_artifact(
    *,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    unit: CurrentUnit,
    digest: Annotated[str | None, Query(max_length=100, description="SHA-256 that the bytes must have")] = None,
    x_content_sha256: Annotated[str | None, Header(max_length=100, description="the same, as a header")] = None,
    dry_run: Annotated[bool, Query(include_in_schema=False)] = False,
) -> ArtifactView:
    """In one go, streamed (`/artifacts/uploads` survives broken connections): `curl --data-binary @model.tar.gz -H
    'Content-Type: application/octet-stream' …`. Kept once by content: the same bytes again give the same answer.

    An archive is examined before it is accepted. Names that lead out of its folder or that not every file system takes,
    links, devices, encrypted or doubled entries, more than 100,000 entries and bombs are refused (`bad_archive`).
    """
    if dry_run:
        raise ValidationFailed.of(
            "query/dry_run", "is not offered here: the bytes would have to be stored to be examined"
        )
    announced = announced_digest(digest, x_content_sha256)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("", "application/json") or kind.startswith("multipart/"):
        message = "must say application/octet-stream, and the body be the bytes themselves"
        raise ValidationFailed.of("header/Content-Type", message)
    await unit.session.rollback()  # an upload takes its time: no connection waits for it
    store: BlobStore = request.app.state.blobs
    length = request.headers.get("content-length", "")
    try:
        async with store.receive(
            request.stream(), announced_size=int(length) if length.isdecimal() else None, announced_digest=announced
        ) as received:
            await admit(unit.session, store.storage, received, user=caller.user)
    except ClientDisconnect:
        raise BadRequest("The upload was broken off; nothing was kept.") from None
    return _kept(received, response)


@router.post(
    "/fetch",
    status_code=201,
    summary="Fetch the bytes of a model",
    responses=raises(BadArchive, DigestMismatch, FetchFailed),
)
async def fetch_artifact(
    *,
    body: FetchRequest,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    unit: CurrentUnit,
    dry_run: Annotated[bool, Query(include_in_schema=False)] = False,
) -> ArtifactView:
    """The registry gets them itself and keeps them like an upload: examined, by content, with a digest that is checked
    at every pull, whatever becomes of where they came from. Never from private addresses, wherever redirects and names
    lead (`fetch_failed`)."""
    if dry_run:
        raise ValidationFailed.of("query/dry_run", "is not offered here: the bytes would have to be fetched")
    announced = announced_digest(body.digest, None, pointer="/digest")
    await unit.session.rollback()  # it takes its time: no connection waits for it
    store: BlobStore = request.app.state.blobs
    fetcher: Fetcher = request.app.state.fetcher
    async with (
        fetcher.open(body.uri) as (size, chunks),
        store.receive(chunks, announced_size=size, announced_digest=announced) as received,
    ):
        await admit(unit.session, store.storage, received, user=caller.user)
    return _kept(received, response)


@router.get(
    "/{digest}",
    summary="Download uploaded bytes",
    response_class=StreamingResponse,
    responses=download.OPENAPI | raises(InvalidToken),
    openapi_extra=_BY_LINK_OR_TOKEN,
)
async def download_artifact(
    *,
    request: Request,
    unit: CurrentUnit,
    digest: Annotated[str, Path(pattern=f"^{DIGEST}$", description="SHA-256 of the bytes")],
    expires: Annotated[int | None, Query(ge=0, le=2**53, description="of a signed link: seconds since 1970")] = None,
    signature: Annotated[str | None, Query(max_length=200, description="of a signed link")] = None,
) -> StreamingResponse:
    """By a signed link, as replicas do; or with a token, by whoever uploaded them or may read a model version that
    consists of them. `Range` gives a part."""
    if signature is not None or expires is not None:
        vault = request.app.state.core.vault
        if not link_is_good(
            digest,
            expires=expires or 0,
            signature=signature or "",
            now=time.time(),
            verify=lambda message, given: vault.verify(message, given, purpose=PULL),
        ):
            raise InvalidToken("The link is not one of ours, or has expired; get a new one.")
        blob = await queries.find(unit.session, digest, caller=None)
    else:
        blob = await queries.find(unit.session, digest, caller=await authenticate(request))
    if blob is None:
        raise NotFound.named("artifact", digest)
    pulls: download.Pulls = request.app.state.pulls
    return await pulls.answer(blob, request)


def _kept(received: Received, response: Response) -> ArtifactView:
    response.headers["Location"] = f"/api/v1/artifacts/{received.digest}"
    return ArtifactView(uri=registry_uri(received.digest), digest=received.digest, size=received.size)


def announced_digest(digest: str | None, header: str | None, *, pointer: str = "query/digest") -> str | None:
    """As we write it, given by query or by X-Content-SHA256. Raises ValidationFailed."""
    given: set[str] = set()
    for name, value in ((pointer, digest), ("header/X-Content-SHA256", header)):
        if value is not None:
            try:
                given.add(parse_digest(value))
            except ValueError as error:
                raise ValidationFailed.of(name, str(error)) from error
    if len(given) > 1:
        raise ValidationFailed.of("query/digest", "differs from X-Content-SHA256")
    return given.pop() if given else None
