"""`/sign-ins`: where one is signed in, and signing out; administrators see and end everybody's."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from services.gateway.parameters import OFFERS_DRY_RUN
from services.gateway.sign_ins import commands, queries
from services.gateway.sign_ins.schemas import SignInView
from services.gateway.users.queries import user_of
from services.gateway.users.schemas import UserName
from shared.http import Caller, CurrentCaller, CurrentUnit, Page, Paging, TransactionRoute
from shared.schema import SignIn

router = APIRouter(route_class=TransactionRoute, prefix="/sign-ins", tags=["sign-in"])

SignInId = Annotated[UUID, Path(alias="id", description="of the sign-in")]
Whose = Annotated[UserName | None, Query(description="whose, for platform admins; your own by default")]


@router.get("", summary="List sign-ins")
async def list_sign_ins(
    caller: CurrentCaller, unit: CurrentUnit, paging: Paging, user: Whose = None
) -> Page[SignInView]:
    """The latest first."""
    where, start = queries.seen_by(caller, user), paging.start(datetime, str)
    after = (start[0], start[1]) if start else None
    rows = await queries.page_of_sign_ins(unit.session, where, after=after, limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda row: (row.renewed_at, str(row.id)))
    total = await queries.count_sign_ins(unit.session, where) if paging.count else None
    return Page(items=[_view(row, caller) for row in items], next=cursor, total=total)


@router.delete("", status_code=204, summary="Sign out everywhere", dependencies=[OFFERS_DRY_RUN])
async def end_sign_ins(caller: CurrentCaller, unit: CurrentUnit, user: Whose = None) -> None:
    """Ends all sign-ins of yours, this one too, or of another `user`. Every service refuses their
    access and refresh tokens from the moment of this answer. Personal access tokens live on."""
    whose = user or caller.user
    caller.require(None, kind="user", name=whose, own=whose == caller.user)
    await user_of(unit.session, whose)
    await commands.end_all(unit.session, whose)


@router.get("/{id}", summary="One sign-in")
async def get_sign_in(sign_in: SignInId, caller: CurrentCaller, unit: CurrentUnit) -> SignInView:
    """Where and how it was begun, and when it ends."""
    return _view(await queries.sign_in_of(unit.session, caller, sign_in), caller)


@router.delete("/{id}", status_code=204, summary="Sign out", dependencies=[OFFERS_DRY_RUN])
async def end_sign_in(sign_in: SignInId, caller: CurrentCaller, unit: CurrentUnit) -> None:
    """Ends one sign-in: every service refuses its access and refresh tokens from the moment of this answer."""
    await commands.end(unit.session, [await queries.sign_in_of(unit.session, caller, sign_in)])


def _view(row: SignIn, caller: Caller) -> SignInView:
    return SignInView(
        id=row.id,
        user=row.user_id,
        method=row.method,
        address=row.address,
        user_agent=row.user_agent,
        current=row.id == caller.sign_in,
        created_at=row.created_at,
        renewed_at=row.renewed_at,
        expires_at=row.expires_at,
        ends_at=row.ends_at,
    )
