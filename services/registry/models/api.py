"""`/models`, `/models/{group}/{model}`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from services.registry.models import commands, queries
from services.registry.models.domain import metrics_summary
from services.registry.models.schemas import Framework, ModelCreate, ModelPatch, ModelView, Tag
from services.registry.parameters import DRY_RUN, GroupId, ModelName, Words
from shared.errors import InUse, NameTaken
from shared.http import (
    Caller,
    CurrentCaller,
    CurrentUnit,
    DnsLabel,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    etag,
)
from shared.http.problems import raises

router = APIRouter(route_class=TransactionRoute, prefix="/models", tags=["models"])

Sort = Literal["name", "-created_at", "-updated_at"]


@router.get("", summary="Search models")
async def list_models(
    *,
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    q: Words = None,
    group: Annotated[list[DnsLabel], Query(max_length=100, description="in any of these groups")] = [],  # noqa: B006 - FastAPI copies it for each request
    framework: Annotated[list[Framework], Query(max_length=20, description="of any of these frameworks")] = [],  # noqa: B006 - FastAPI copies it for each request
    tag: Annotated[list[Tag], Query(max_length=20, description="with all of these tags")] = [],  # noqa: B006 - FastAPI copies it for each request
    mine: Annotated[bool, Query(description="only those that you made")] = False,
    sort: Annotated[Sort, Query(description="by group and name, or the newest first")] = "name",
) -> Page[ModelView]:
    """Over all models that you may see. `q` finds words, or beginnings of words, in names, frameworks, descriptions
    and tags; with several words, all of them."""
    wanted = queries.Filter(
        words=q, groups=group, frameworks=framework, tags=tag, created_by=caller.user if mine else None
    )
    rows, total = await queries.page(unit.session, caller=caller, wanted=wanted, sort=sort, paging=paging)
    shown, following = paging.page(rows, key=lambda found: _key(found, sort))
    return Page(items=[_view(found) for found in shown], next=following, total=total)


@router.post("", status_code=201, summary="Make a model", responses=raises(NameTaken), dependencies=DRY_RUN)
async def create_model(*, body: ModelCreate, caller: CurrentCaller, unit: CurrentUnit, response: Response) -> ModelView:
    """Without a version yet. Registering a version of a model that is not there makes it too."""
    caller.require(body.group, kind="group", name=body.group)
    await commands.create(unit.session, body, user=caller.user)
    response.headers["Location"] = f"/api/v1/models/{body.group}/{body.name}"
    return await _answer(unit, body.group, body.name, response)


@router.get("/{group}/{model}", summary="Get a model")
async def get_model(
    *, group: GroupId, model: ModelName, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> ModelView:
    """With its aliases, and the metrics of its latest version."""
    _require(caller, group, model)
    return await _answer(unit, group, model, response)


@router.patch("/{group}/{model}", summary="Change a model and its aliases", dependencies=DRY_RUN)
async def update_model(
    *,
    group: GroupId,
    model: ModelName,
    body: ModelPatch,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    if_match: IfMatch = None,
) -> ModelView:
    """A JSON merge patch: `{"aliases": {"champion": 3, "candidate": null}}` sets one alias and removes another."""
    _require(caller, group, model)
    await commands.change(unit.session, group, model, body, if_match=if_match)
    return await _answer(unit, group, model, response)


@router.delete(
    "/{group}/{model}", status_code=204, summary="Delete a model", responses=raises(InUse), dependencies=DRY_RUN
)
async def delete_model(
    *,
    group: GroupId,
    model: ModelName,
    caller: CurrentCaller,
    unit: CurrentUnit,
    if_match: IfMatch = None,
) -> None:
    """With all its versions. Refused while live deployments stand on one of them (`in_use` names them)."""
    found = await queries.find(unit.session, group, model)
    _require(caller, group, model, own=found.created_by == caller.user)
    await commands.remove(unit.session, group, model, caller=caller, if_match=if_match)


def _require(caller: Caller, group: str, model: str, *, own: bool = False) -> None:
    caller.require(group, kind="model", name=f"{group}/{model}", own=own)


async def _answer(unit: CurrentUnit, group: str, model: str, response: Response) -> ModelView:
    found = await queries.show(unit.session, group, model)
    response.headers["ETag"] = etag(found[0].version)
    return _view(found)


def _key(found: queries.Found, sort: Sort) -> tuple[Any, ...]:
    model = found[0]
    match sort:
        case "name":
            return model.group_id, model.name
        case "-created_at":
            return (model.id,)
        case "-updated_at":
            return model.updated_at, model.id


def _view(found: queries.Found) -> ModelView:
    model, latest, metrics, aliases = found
    return ModelView(
        group=model.group_id,
        name=model.name,
        framework=model.framework,
        description=model.description,
        tags=model.tags,
        aliases=aliases or {},
        latest=latest,
        metrics_summary=metrics_summary(metrics),
        created_by=model.created_by,
        created_at=model.created_at,
        updated_at=model.updated_at,
    )
