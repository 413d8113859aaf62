"""Users, for administrators; and one's own page."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from services.gateway.errors import LastAdmin
from services.gateway.identity.passwords import generate_password
from services.gateway.parameters import OFFERS_DRY_RUN, DryRun, name_after
from services.gateway.parts import CurrentParts
from services.gateway.users import commands, queries
from services.gateway.users.schemas import (
    GroupPermission,
    Me,
    NewUser,
    NewUserView,
    PasswordChange,
    UserChange,
    UserName,
    UserView,
)
from shared.errors import NameTaken, TooManyRequests, ValidationFailed
from shared.http import (
    TAGGED,
    CurrentCaller,
    CurrentUnit,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    check_match,
    etag,
)
from shared.http.addresses import address_of
from shared.http.problems import raises
from shared.schema import User

router = APIRouter(route_class=TransactionRoute, tags=["users"])

UserId = Annotated[UserName, Path(description="the user's name")]


@router.get("/me", summary="Who I am, and what I may", responses=TAGGED)
async def get_me(response: Response, caller: CurrentCaller, unit: CurrentUnit) -> Me:
    """With a personal access token: what its scopes leave of it."""
    row = await queries.user_of(unit.session, caller.user)
    response.headers["ETag"] = etag(row.version)
    return Me(
        user=row.id,
        display_name=row.display_name,
        email=row.email,
        admin=caller.admin,
        groups=[
            GroupPermission(group=group, permission=str(permission))
            for group, permission in sorted(caller.permissions.items())
        ],
    )


@router.put(
    "/me/password",
    status_code=204,
    summary="Change my password",
    responses=raises(TooManyRequests),
    dependencies=[OFFERS_DRY_RUN],
)
async def change_my_password(
    request: Request, body: PasswordChange, caller: CurrentCaller, unit: CurrentUnit, parts: CurrentParts
) -> None:
    """Ends all sign-ins of the user, this one too."""
    attempt = parts.throttle.take(user=caller.user, address=address_of(request), now=time.monotonic())
    known_hash = (await queries.user_of(unit.session, caller.user)).password_hash
    await unit.session.rollback()  # hashing takes its time, and the connection is needed by others
    if not await parts.passwords.verify(known_hash, body.current):
        raise ValidationFailed.of("/current", "is not your password")
    attempt.succeeded()
    new_hash = await parts.passwords.hash(body.new)
    row = await queries.user_of(unit.session, caller.user, for_update=True)
    await commands.change_user(unit.session, row, {"password_hash": new_hash})


@router.get("/users", summary="List users")
async def list_users(
    _: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    q: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="part of a name or e-mail")
    ] = None,
) -> Page[UserView]:
    """People and service accounts, sorted by name."""
    rows = await queries.page_of_users(unit.session, q=q, after=name_after(paging), limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda row: (row.id,))
    total = await queries.count_users(unit.session, q=q) if paging.count else None
    return Page(items=[_view(row) for row in items], next=cursor, total=total)


@router.post("/users", status_code=201, summary="Add a user", responses=raises(NameTaken))
async def create_user(
    *,
    response: Response,
    body: NewUser,
    _: CurrentCaller,
    unit: CurrentUnit,
    parts: CurrentParts,
    dry_run: DryRun,
) -> NewUserView:
    """Without `password` one is made, and shown this once."""
    generated = generate_password() if body.password is None else None
    password_hash = await parts.passwords.hash(generated or body.password or "")
    row = await commands.create_user(
        unit.session,
        body.user,
        display_name=body.display_name,
        email=body.email,
        admin=body.admin,
        password_hash=password_hash,
    )
    response.headers["ETag"] = etag(row.version)
    response.headers["Location"] = f"/api/v1/users/{row.id}"
    return NewUserView(**_view(row).model_dump(), password=None if dry_run else generated)


@router.get("/users/{user}", summary="One user")
async def get_user(response: Response, user: UserId, caller: CurrentCaller, unit: CurrentUnit) -> UserView:
    """A person or a service account; the groups that one is a member of, `/me` says."""
    caller.require(None, kind="user", name=user, own=user == caller.user)
    row = await queries.user_of(unit.session, user)
    response.headers["ETag"] = etag(row.version)
    return _view(row)


@router.patch(
    "/users/{user}",
    summary="Change a user",
    responses=raises(NameTaken, LastAdmin),
    dependencies=[OFFERS_DRY_RUN],
)
async def update_user(
    *,
    response: Response,
    user: UserId,
    body: UserChange,
    caller: CurrentCaller,
    unit: CurrentUnit,
    parts: CurrentParts,
    if_match: IfMatch = None,
) -> UserView:
    """A JSON merge patch. The last administrator who can sign in can be neither demoted nor disabled."""
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    if wrong := sorted(name for name, value in changes.items() if value is None and name != "email"):
        raise ValidationFailed.of(f"/{wrong[0]}", "cannot be cleared")
    if "password" in changes:
        caller.require_action("update_user.password")
        changes["password_hash"] = await parts.passwords.hash(changes.pop("password"))
    row = await queries.user_of(unit.session, user, for_update=True)
    check_match(if_match, row.version)
    if "password_hash" in changes and await queries.is_of_service(unit.session, user):
        raise ValidationFailed.of("/password", "a service account has none; give it a new secret instead")
    await commands.change_user(unit.session, row, changes)
    response.headers["ETag"] = etag(row.version)
    return _view(row)


@router.delete(
    "/users/{user}",
    status_code=204,
    summary="Remove a user",
    responses=raises(LastAdmin),
    dependencies=[OFFERS_DRY_RUN],
)
async def delete_user(user: UserId, _: CurrentCaller, unit: CurrentUnit, if_match: IfMatch = None) -> None:
    """The user's access tokens are refused from now on, memberships end; what the user has made stays."""
    row = await queries.user_of(unit.session, user, for_update=True)
    check_match(if_match, row.version)
    await commands.delete_user(unit.session, row)


def _view(row: User) -> UserView:
    return UserView(
        user=row.id,
        display_name=row.display_name,
        email=row.email,
        admin=row.admin,
        disabled=row.disabled,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
