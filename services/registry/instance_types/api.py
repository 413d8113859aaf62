"""`/instance-types`, `/instance-types/{id}`."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.registry import usage
from services.registry.instance_types import commands, queries
from services.registry.instance_types.domain import Gpu
from services.registry.instance_types.schemas import (
    MOST_USES,
    InstanceTypeCreate,
    InstanceTypeDetail,
    InstanceTypePatch,
    InstanceTypeView,
    Toleration,
    TypeUse,
)
from services.registry.parameters import DRY_RUN, InstanceTypeId
from shared.errors import InUse, NameTaken, NotFound
from shared.http import (
    Caller,
    CurrentCaller,
    CurrentUnit,
    DnsLabel,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    Unit,
    etag,
)
from shared.http.problems import raises
from shared.schema import InstanceType

router = APIRouter(route_class=TransactionRoute, prefix="/instance-types", tags=["instance types"])


@router.get("", summary="List instance types", responses=raises(NotFound))
async def list_instance_types(
    *,
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    group: Annotated[DnsLabel | None, Query(description="only those that this group may use")] = None,
) -> Page[InstanceTypeView]:
    """Those that are open to your groups, sorted by id."""
    if group is not None:
        caller.require(group, kind="group", name=group, action="get_group")
    rows, total = await queries.page(unit.session, caller=caller, group=group, paging=paging)
    shown, following = paging.page(rows, key=lambda each: (each.id,))
    return Page(items=[_view(each, caller) for each in shown], next=following, total=total)


@router.post("", status_code=201, summary="Offer an instance type", responses=raises(NameTaken), dependencies=DRY_RUN)
async def create_instance_type(
    *, body: InstanceTypeCreate, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> InstanceTypeDetail:
    """For all groups, or for those that `groups` names."""
    made = await commands.create(unit.session, body)
    response.headers["Location"] = f"/api/v1/instance-types/{made.id}"
    return await _answer(unit, made, caller, response)


@router.get("/{instance_type}", summary="Get an instance type")
async def get_instance_type(
    *, instance_type: InstanceTypeId, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> InstanceTypeDetail:
    """With the live deployments that run on it."""
    return await _answer(unit, await queries.find(unit.session, instance_type, caller=caller), caller, response)


@router.patch("/{instance_type}", summary="Change an instance type", responses=raises(InUse), dependencies=DRY_RUN)
async def update_instance_type(
    *,
    instance_type: InstanceTypeId,
    body: InstanceTypePatch,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    if_match: IfMatch = None,
) -> InstanceTypeDetail:
    """A JSON merge patch. What runs keeps the size it was given; a size that live deployments use
    can grow, but not shrink (`in_use` names them). The answer says which deployments are on it; with `dry_run`, before
    anything has changed."""
    await queries.find(unit.session, instance_type, caller=caller)
    caller.require(None, kind="instance type", name=instance_type)
    changed = await commands.change(unit.session, instance_type, body, caller=caller, if_match=if_match)
    return await _answer(unit, changed, caller, response)


@router.delete(
    "/{instance_type}",
    status_code=204,
    summary="Retire an instance type",
    responses=raises(InUse),
    dependencies=DRY_RUN,
)
async def delete_instance_type(
    *,
    instance_type: InstanceTypeId,
    caller: CurrentCaller,
    unit: CurrentUnit,
    if_match: IfMatch = None,
) -> None:
    """Refused while live deployments use it (`in_use` names them)."""
    await queries.find(unit.session, instance_type, caller=caller)
    caller.require(None, kind="instance type", name=instance_type)
    await commands.delete(unit.session, instance_type, caller=caller, if_match=if_match)


async def _answer(unit: Unit, found: InstanceType, caller: Caller, response: Response) -> InstanceTypeDetail:
    response.headers["ETag"] = etag(found.version)
    uses = await usage.of_instance_type(unit.session, found.id)
    seen = [use for use in uses if caller.sees(use.group)]
    return InstanceTypeDetail(
        **_view(found, caller).model_dump(),
        deployments=[_use(use) for use in seen[:MOST_USES]],
        deployments_total=len({use.deployment for use in uses}),
    )


def _use(use: usage.Use) -> TypeUse:
    return TypeUse(
        deployment=use.deployment,
        group=use.group,
        version=use.number,
        model=use.model,
        stopped=use.stopped,
        phase=use.phase,
    )


def _view(found: InstanceType, caller: Caller) -> InstanceTypeView:
    groups = found.groups
    if groups is not None:
        groups = [group for group in groups if caller.sees(group)]
    return InstanceTypeView(
        id=found.id,
        name=found.name,
        cpu=float(found.cpu),
        memory=found.memory,
        gpu=Gpu(found.gpu, found.gpu_model).show(),
        node_selector=found.node_selector,
        tolerations=[Toleration(**each) for each in found.tolerations],
        groups=groups,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )
