"""`/groups/{group}/members/{user}`."""

from fastapi import APIRouter, Response

from services.registry.errors import LastManager, ManagedElsewhere
from services.registry.groups import queries as groups
from services.registry.members import commands, queries
from services.registry.members.schemas import MemberPut, MemberView
from services.registry.parameters import DRY_RUN, GroupId, UserId
from shared.errors import NotFound
from shared.http import CurrentCaller, CurrentUnit, Page, Paging, TransactionRoute
from shared.http.problems import raises
from shared.schema import Member

router = APIRouter(route_class=TransactionRoute, prefix="/groups/{group}/members", tags=["members"])


@router.get("", summary="List a group's members")
async def list_members(*, group: GroupId, caller: CurrentCaller, unit: CurrentUnit, paging: Paging) -> Page[MemberView]:
    """Sorted by user."""
    caller.require(group, kind="group", name=group)
    await groups.find(unit.session, group)
    rows, total = await queries.page(unit.session, group, paging)
    shown, following = paging.page(rows, key=lambda member: (member.user_id,))
    return Page(items=[_view(member) for member in shown], next=following, total=total)


@router.get("/{user}", summary="Get a member")
async def get_member(*, group: GroupId, user: UserId, caller: CurrentCaller, unit: CurrentUnit) -> MemberView:
    """What the user may do in the group, and who says so."""
    caller.require(group, kind="group", name=group)
    member = await queries.find(unit.session, group, user)
    if member is None:
        raise NotFound.named("member", user)
    return _view(member)


@router.put(
    "/{user}",
    summary="Make a user a member, or change a member's permission",
    responses={201: {"model": MemberView, "description": "The user is a member now"}, **raises(LastManager)},
    dependencies=DRY_RUN,
)
async def put_member(
    *,
    group: GroupId,
    user: UserId,
    body: MemberPut,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
) -> MemberView:
    """The last manager can only be replaced, unless by a platform admin. A membership that comes from an
    identity provider is from then on what you say, whatever the provider does."""
    caller.require(group, kind="group", name=group)
    member, new = await commands.put(unit.session, caller=caller, group=group, user=user, permission=body.permission)
    response.status_code = 201 if new else 200
    return _view(member)


@router.delete(
    "/{user}",
    status_code=204,
    summary="Remove a member",
    responses=raises(LastManager, ManagedElsewhere),
    dependencies=DRY_RUN,
)
async def remove_member(*, group: GroupId, user: UserId, caller: CurrentCaller, unit: CurrentUnit) -> None:
    """Every member may leave. The last manager stays, unless a platform admin removes them. A membership
    that comes from an identity provider is ended there, or would come again."""
    caller.require(group, kind="group", name=group, own=user == caller.user)
    await commands.remove(unit.session, caller=caller, group=group, user=user)


def _view(member: Member) -> MemberView:
    return MemberView.model_validate(
        {
            "user": member.user_id,
            "permission": member.permission,
            "source": member.source,
            "created_at": member.created_at,
            "updated_at": member.updated_at,
        }
    )
