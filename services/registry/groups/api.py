"""`/groups`, `/groups/{group}`, `/groups/{group}/quota`."""

from collections.abc import Sequence

from fastapi import APIRouter, Response

from services.registry.groups import commands, queries
from services.registry.groups.schemas import (
    BytesUse,
    CardsUse,
    CoresUse,
    CountUse,
    DeploymentUse,
    GroupCreate,
    GroupPatch,
    GroupView,
    Quota,
    QuotaView,
)
from services.registry.parameters import DRY_RUN, GroupId, Words
from shared.errors import InUse, NameTaken
from shared.http import (
    Caller,
    CurrentCaller,
    CurrentUnit,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    etag,
)
from shared.http.problems import raises
from shared.schema import Deployment, Group

router = APIRouter(route_class=TransactionRoute, prefix="/groups", tags=["groups"])


@router.get("", summary="List groups")
async def list_groups(*, caller: CurrentCaller, unit: CurrentUnit, paging: Paging, q: Words = None) -> Page[GroupView]:
    """The groups that you are a member of; all of them for platform admins. Sorted by id; `q` finds ids and names."""
    rows, total = await queries.page(unit.session, caller=caller, words=q, paging=paging)
    shown, following = paging.page(rows, key=lambda group: (group.id,))
    return Page(items=[_view(group) for group in shown], next=following, total=total)


@router.post("", status_code=201, summary="Make a group", responses=raises(NameTaken), dependencies=DRY_RUN)
async def create_group(*, body: GroupCreate, _: CurrentCaller, unit: CurrentUnit, response: Response) -> GroupView:
    """It has no members: `PUT …/members/{user}` gives it a first manager."""
    made = await commands.create(unit.session, body)
    response.headers["Location"] = f"/api/v1/groups/{made.id}"
    return _answer(made, response)


@router.get("/{group}", summary="Get a group")
async def get_group(*, group: GroupId, caller: CurrentCaller, unit: CurrentUnit, response: Response) -> GroupView:
    """Its name, its switch and its limits; how much of them is used, `…/quota` says."""
    _require(caller, group)
    return _answer(await queries.find(unit.session, group), response)


@router.patch("/{group}", summary="Change a group", dependencies=DRY_RUN)
async def update_group(
    *,
    group: GroupId,
    body: GroupPatch,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    if_match: IfMatch = None,
) -> GroupView:
    """A JSON merge patch. Managers may change the name; quota and deployment switch are for platform admins."""
    _require(caller, group)
    given = body.model_fields_set
    if given - {"name"}:
        _require(caller, group, action="update_group.quota_and_switch")
    columns: dict[str, object] = {}
    if "name" in given:
        columns["name"] = body.name or group
    if "deployment_enabled" in given:
        columns["deployment_enabled"] = body.deployment_enabled is not False
    if "quota" in given:
        columns |= (body.quota or Quota()).columns(only_given=body.quota is not None)
    return _answer(await commands.change(unit.session, group, columns, if_match=if_match), response)


@router.delete("/{group}", status_code=204, summary="Delete a group", responses=raises(InUse), dependencies=DRY_RUN)
async def delete_group(*, group: GroupId, caller: CurrentCaller, unit: CurrentUnit, if_match: IfMatch = None) -> None:
    """Refused while the group has models or deployments, or a history of deployments."""
    _require(caller, group)
    await commands.delete(unit.session, group, if_match=if_match)


@router.get("/{group}/quota", summary="Get a group's quota with its use")
async def get_quota(*, group: GroupId, caller: CurrentCaller, unit: CurrentUnit, response: Response) -> QuotaView:
    """What the group's deployments have reserved, against the limits, and by which deployment."""
    _require(caller, group)
    found = await queries.find(unit.session, group)
    return _quota(found, await queries.reservations(unit.session, group), response)


@router.put("/{group}/quota", summary="Set a group's quota", dependencies=DRY_RUN)
async def set_quota(
    *,
    group: GroupId,
    body: Quota,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    if_match: IfMatch = None,
) -> QuotaView:
    """What is left out has no limit. A quota below what is in use stops nothing that runs."""
    _require(caller, group)
    found = await commands.change(unit.session, group, body.columns(only_given=False), if_match=if_match)
    return _quota(found, await queries.reservations(unit.session, group), response)


@router.patch("/{group}/quota", summary="Change a group's quota", dependencies=DRY_RUN)
async def update_quota(
    *,
    group: GroupId,
    body: Quota,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    if_match: IfMatch = None,
) -> QuotaView:
    """A JSON merge patch: null removes a limit."""
    _require(caller, group)
    found = await commands.change(unit.session, group, body.columns(only_given=True), if_match=if_match)
    return _quota(found, await queries.reservations(unit.session, group), response)


def _require(caller: Caller, group: str, *, action: str | None = None) -> None:
    caller.require(group, kind="group", name=group, action=action)


def _answer(group: Group, response: Response) -> GroupView:
    response.headers["ETag"] = etag(group.version)
    return _view(group)


def _view(group: Group) -> GroupView:
    return GroupView(
        id=group.id,
        name=group.name,
        deployment_enabled=group.deployment_enabled,
        quota=Quota.model_construct(
            cpu=group.quota_cpu,
            memory=group.quota_memory,
            gpu=group.quota_gpu,
            deployments=group.quota_deployments,
        ),
        personal=group.personal_of is not None,
        created_at=group.created_at,
        updated_at=group.updated_at,
    )


def _quota(group: Group, by: Sequence[Deployment], response: Response) -> QuotaView:
    response.headers["ETag"] = etag(group.version)
    return QuotaView(
        cpu=CoresUse(used=float(sum(each.reserved_cpu for each in by)), limit=_number(group.quota_cpu)),
        memory=BytesUse(used=sum(each.reserved_memory for each in by), limit=group.quota_memory),
        gpu=CardsUse(used=float(sum(each.reserved_gpu for each in by)), limit=_number(group.quota_gpu)),
        deployments=CountUse(used=len(by), limit=group.quota_deployments),
        by=[
            DeploymentUse(
                deployment=each.id,
                created_by=each.created_by,
                cpu=float(each.reserved_cpu),
                memory=each.reserved_memory,
                gpu=float(each.reserved_gpu),
            )
            for each in by
        ],
    )


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # a number, of whichever type
