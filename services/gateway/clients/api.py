"""`/deployments/{id}/clients`: answered once Envoy follows, unless asked otherwise."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Response

from services.gateway.clients import commands, queries
from services.gateway.clients.domain import check_expiry, new_token
from services.gateway.clients.schemas import (
    ClientName,
    ClientView,
    EnforcementView,
    NewClient,
    NewClientView,
    RevokedView,
    Rotation,
)
from services.gateway.domain import Enforcement
from services.gateway.parameters import (
    OFFERS_DRY_RUN,
    CurrentWaiting,
    DeploymentId,
    DryRun,
    Waiting,
    name_after,
)
from services.gateway.parts import CurrentParts, Parts
from shared.errors import LimitReached, NameTaken
from shared.http import (
    CurrentCaller,
    CurrentUnit,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    Unit,
    check_match,
    etag,
)
from shared.http.problems import raises
from shared.schema import EndpointClient

router = APIRouter(route_class=TransactionRoute, prefix="/deployments/{id}/clients", tags=["clients"])

ClientId = Annotated[ClientName, Path(description="the client's name")]
View = TypeVar("View", bound=EnforcementView)


@router.get("", summary="List the clients of an endpoint")
async def list_clients(
    deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit, paging: Paging
) -> Page[ClientView]:
    """Sorted by name, each with when it was last let in."""
    owner = await queries.owner_of(unit.session, deployment, caller)
    rows = await queries.page_of_clients(unit.session, owner, after=name_after(paging), limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda row: (row.name,))
    total = await queries.count_clients(unit.session, owner) if paging.count else None
    used = await queries.last_uses(unit.session, owner, [row.name for row in items])
    return Page(items=[ClientView(**_fields(row, used.get(row.name))) for row in items], next=cursor, total=total)


@router.get("/{client}", summary="One client")
async def get_client(
    response: Response, deployment: DeploymentId, client: ClientId, caller: CurrentCaller, unit: CurrentUnit
) -> ClientView:
    """When it was last let in and until when it may; its token is not shown again."""
    owner = await queries.owner_of(unit.session, deployment, caller)
    row = await queries.client_of(unit.session, owner, client)
    response.headers["ETag"] = etag(row.version)
    used = await queries.last_uses(unit.session, owner, [client])
    return ClientView(**_fields(row, used.get(client)))


@router.post(
    "",
    status_code=201,
    summary="Let a client in",
    responses=raises(NameTaken, LimitReached),
)
async def create_client(
    *,
    response: Response,
    deployment: DeploymentId,
    body: NewClient,
    caller: CurrentCaller,
    unit: CurrentUnit,
    parts: CurrentParts,
    waiting: CurrentWaiting,
    dry_run: DryRun,
) -> NewClientView:
    """The token is shown in this answer and never again; we keep a hash. Whoever holds it may call the endpoint as soon
    as `enforced` is true. A public endpoint lets everybody in; its clients count once it is private."""
    check_expiry(body.expires_at, now=datetime.now(UTC))
    owner = await queries.owner_of(unit.session, deployment, caller)
    token, sha1 = new_token(body.name)
    row = await commands.add_client(
        unit.session, owner, body.name, sha1=sha1, expires_at=body.expires_at, by=caller.user
    )
    response.headers["ETag"] = etag(row.version)
    response.headers["Location"] = f"/api/v1/deployments/{owner.id}/clients/{row.name}"
    view = NewClientView(**_fields(row, None), token=None if dry_run else token, enforced=None)
    return _once_enforced(view, unit, parts, owner.id, waiting)


@router.post(
    "/{client}/rotate",
    summary="Give a client a new token",
    responses=raises(LimitReached),
)
async def rotate_client(
    *,
    response: Response,
    deployment: DeploymentId,
    client: ClientId,
    caller: CurrentCaller,
    unit: CurrentUnit,
    parts: CurrentParts,
    waiting: CurrentWaiting,
    dry_run: DryRun,
    body: Rotation | None = None,
    if_match: IfMatch = None,
) -> NewClientView:
    """The old token is refused as soon as the new one is let in, or with `overlap` so many seconds later: time to move
    the callers, who go by the same name with both."""
    now = datetime.now(UTC)
    owner = await queries.owner_of(unit.session, deployment, caller)
    row = await queries.client_of(unit.session, owner, client, for_update=True)
    check_match(if_match, row.version)
    body = body or Rotation()
    expires_at = body.expires_at if "expires_at" in body.model_fields_set else row.expires_at
    check_expiry(expires_at, now=now)
    token = await commands.rotate_client(unit.session, owner, row, overlap=body.overlap, expires_at=expires_at, now=now)
    response.headers["ETag"] = etag(row.version)
    used = await queries.last_uses(unit.session, owner, [client])
    view = NewClientView(**_fields(row, used.get(client)), token=None if dry_run else token, enforced=None)
    return _once_enforced(view, unit, parts, owner.id, waiting)


@router.delete("/{client}", summary="Revoke a client", dependencies=[OFFERS_DRY_RUN])
async def revoke_client(
    *,
    deployment: DeploymentId,
    client: ClientId,
    caller: CurrentCaller,
    unit: CurrentUnit,
    parts: CurrentParts,
    waiting: CurrentWaiting,
    if_match: IfMatch = None,
) -> RevokedView:
    """Once `enforced` is true no request with the token is let through; one that is under way ends as it would have."""
    owner = await queries.owner_of(unit.session, deployment, caller)
    row = await queries.client_of(unit.session, owner, client, for_update=True)
    check_match(if_match, row.version)
    await commands.revoke_client(unit.session, owner, row)
    view = RevokedView(name=client, enforced=None)
    return _once_enforced(view, unit, parts, owner.id, waiting)


def _once_enforced(view: View, unit: Unit, parts: Parts, deployment: str, waiting: Waiting) -> View:
    """Have the answer wait, once committed, and say what came of it."""
    seconds = waiting.seconds
    if seconds is None:
        return view

    async def answer() -> dict[str, Any]:
        enforcement = Enforcement.of(await parts.reconciler.enforce(deployment, within=seconds))
        return view.model_copy(update=EnforcementView.fields_of(enforcement)).model_dump(mode="json")

    unit.after_commit(answer)
    return view


def _fields(row: EndpointClient, last_used_at: datetime | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "expires_at": row.expires_at,
        "previous_until": row.previous_until if row.previous_until and row.previous_until > datetime.now(UTC) else None,
        "last_used_at": last_used_at,
        "created_at": row.created_at,
        "created_by": row.created_by,
    }
