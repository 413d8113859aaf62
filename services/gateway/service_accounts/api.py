"""`/service-accounts`, for administrators."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from services.gateway.errors import LastAdmin
from services.gateway.parameters import OFFERS_DRY_RUN, DryRun, name_after
from services.gateway.service_accounts import commands, queries
from services.gateway.service_accounts.schemas import (
    NewServiceAccount,
    NewServiceAccountView,
    SecretRotation,
    ServiceAccountView,
)
from services.gateway.users.commands import delete_user
from services.gateway.users.queries import user_of
from services.gateway.users.schemas import UserName
from shared.access_tokens import SECRET_PREFIX, new_token
from shared.errors import NameTaken
from shared.http import CurrentCaller, CurrentUnit, IfMatch, Page, Paging, TransactionRoute, check_match, etag
from shared.http.problems import raises
from shared.schema import ServiceAccount

router = APIRouter(route_class=TransactionRoute, prefix="/service-accounts", tags=["service accounts"])

AccountName = Annotated[UserName, Path(alias="account", description="the account's name")]


@router.get("", summary="List service accounts")
async def list_service_accounts(_: CurrentCaller, unit: CurrentUnit, paging: Paging) -> Page[ServiceAccountView]:
    """Sorted by name."""
    rows = await queries.page_of_accounts(unit.session, after=name_after(paging), limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda found: (found[0].user_id,))
    total = await queries.count_accounts(unit.session) if paging.count else None
    return Page(items=[ServiceAccountView(**_fields(*found)) for found in items], next=cursor, total=total)


@router.post(
    "",
    status_code=201,
    summary="Make a service account",
    responses=raises(NameTaken),
)
async def create_service_account(
    response: Response, body: NewServiceAccount, caller: CurrentCaller, unit: CurrentUnit, dry_run: DryRun
) -> NewServiceAccountView:
    """A user for a pipeline. It signs in at `/auth/token` with grant_type=client_credentials and the secret that this
    answer shows, once. It may nothing until the manager of a group makes it a member, like any user."""
    secret = new_token(SECRET_PREFIX)
    row = await commands.create_account(
        unit.session, body.name, description=body.description, secret=secret, by=caller.user
    )
    response.headers["ETag"] = etag(row.version)
    response.headers["Location"] = f"/api/v1/service-accounts/{row.user_id}"
    return _with_secret(row, None if dry_run else secret)


@router.get("/{account}", summary="One service account")
async def get_service_account(
    response: Response, account: AccountName, _: CurrentCaller, unit: CurrentUnit
) -> ServiceAccountView:
    """When it last signed in; its secret is not shown again."""
    found = await queries.account_of(unit.session, account)
    response.headers["ETag"] = etag(found[0].version)
    return ServiceAccountView(**_fields(*found))


@router.post("/{account}/rotate", summary="Give a service account a new secret")
async def rotate_service_account(
    *,
    response: Response,
    account: AccountName,
    _: CurrentCaller,
    unit: CurrentUnit,
    dry_run: DryRun,
    body: SecretRotation | None = None,
    if_match: IfMatch = None,
) -> NewServiceAccountView:
    """The secret before, and the access tokens that it gave, are refused at once. With `overlap` the secret is good for
    so many seconds more, and the tokens until they expire."""
    row, disabled = await queries.account_of(unit.session, account, for_update=True)
    check_match(if_match, row.version)
    secret = new_token(SECRET_PREFIX)
    overlap = body.overlap if body else 0
    await commands.rotate_secret(unit.session, row, secret=secret, overlap=overlap, now=datetime.now(UTC))
    response.headers["ETag"] = etag(row.version)
    return _with_secret(row, None if dry_run else secret, disabled=disabled)


@router.delete(
    "/{account}",
    status_code=204,
    summary="Remove a service account",
    responses=raises(LastAdmin),
    dependencies=[OFFERS_DRY_RUN],
)
async def delete_service_account(
    account: AccountName, _: CurrentCaller, unit: CurrentUnit, if_match: IfMatch = None
) -> None:
    """All services refuse its access tokens from the moment of this answer; its memberships end, what it made stays."""
    found = await queries.account_of(unit.session, account)
    check_match(if_match, found[0].version)
    await delete_user(unit.session, await user_of(unit.session, account, for_update=True))


def _with_secret(row: ServiceAccount, secret: str | None, *, disabled: bool = False) -> NewServiceAccountView:
    return NewServiceAccountView(**_fields(row, disabled), client_id=row.user_id, client_secret=secret)


def _fields(row: ServiceAccount, disabled: bool) -> dict[str, Any]:
    return {
        "name": row.user_id,
        "description": row.description,
        "disabled": disabled,
        "last_used_at": row.last_used_at,
        "created_at": row.created_at,
        "created_by": row.created_by,
    }
