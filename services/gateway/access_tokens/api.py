"""`/access-tokens`: one's personal access tokens; administrators see and revoke everybody's."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from services.gateway.access_tokens import commands, queries
from services.gateway.access_tokens.domain import check_scopes, expiry
from services.gateway.access_tokens.schemas import AccessTokenView, NewAccessToken, NewAccessTokenView
from services.gateway.parameters import OFFERS_DRY_RUN, DryRun
from services.gateway.users.schemas import UserName
from shared.access_tokens import new_token
from shared.errors import LimitReached, NameTaken
from shared.http import CurrentCaller, CurrentUnit, Page, Paging, TransactionRoute
from shared.http.problems import raises
from shared.schema import AccessToken

router = APIRouter(route_class=TransactionRoute, prefix="/access-tokens", tags=["access tokens"])

TokenId = Annotated[UUID, Path(alias="id", description="of the access token")]


@router.get("", summary="List access tokens")
async def list_access_tokens(
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    user: Annotated[UserName | None, Query(description="whose, for platform admins; your own by default")] = None,
) -> Page[AccessTokenView]:
    """Sorted by name. Expired ones are listed for another month."""
    start = paging.start(str, str)
    where = queries.seen_by(caller, user)
    after = (start[0], start[1]) if start else None
    rows = await queries.page_of_tokens(unit.session, where, after=after, limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda row: (row.user_id, row.name))
    total = await queries.count_tokens(unit.session, where) if paging.count else None
    return Page(items=[_view(row) for row in items], next=cursor, total=total)


@router.post(
    "",
    status_code=201,
    summary="Make an access token",
    responses=raises(NameTaken, LimitReached),
)
async def create_access_token(
    response: Response, body: NewAccessToken, caller: CurrentCaller, unit: CurrentUnit, dry_run: DryRun
) -> NewAccessTokenView:
    """For scripts and pipelines: send it as `Authorization: Bearer moorpat_…`, to any service. It is shown in this
    answer and never again; we keep a hash."""
    check_scopes(body.scopes)
    token = new_token()
    row = await commands.create_token(
        unit.session,
        caller.user,
        body.name,
        token=token,
        scopes=body.scopes,
        expires_at=expiry(body.expires_at, now=datetime.now(UTC)),
    )
    response.headers["Location"] = f"/api/v1/access-tokens/{row.id}"
    return NewAccessTokenView(**_view(row).model_dump(), token=None if dry_run else token)


@router.get("/{id}", summary="One access token")
async def get_access_token(token: TokenId, caller: CurrentCaller, unit: CurrentUnit) -> AccessTokenView:
    """What it may do, and when it was last used; the token itself is not shown again."""
    return _view(await queries.token_of(unit.session, caller, token))


@router.delete("/{id}", status_code=204, summary="Revoke an access token", dependencies=[OFFERS_DRY_RUN])
async def revoke_access_token(token: TokenId, caller: CurrentCaller, unit: CurrentUnit) -> None:
    """Every service refuses it from the moment of this answer. A token may revoke itself."""
    await commands.revoke_token(unit.session, await queries.token_of(unit.session, caller, token))


def _view(row: AccessToken) -> AccessTokenView:
    return AccessTokenView(
        id=row.id,
        name=row.name,
        user=row.user_id,
        scopes=row.scopes,
        expires_at=row.expires_at,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
