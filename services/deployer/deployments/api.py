"""`/deployments`, one deployment, and what can be done to it as a whole."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from services.deployer.deployments import queries
from services.deployer.deployments.dependencies import (
    ADMISSION,
    CHANGES,
    Answering,
    CreatingCommands,
    CurrentCommands,
    DeploymentId,
    Message,
    PublicUrl,
    answer,
)
from services.deployer.deployments.schemas import (
    Action,
    DeploymentView,
    PatchDeployment,
    PostDeployment,
    PutDeployment,
    RollBack,
)
from services.deployer.deployments.views import document
from services.deployer.deployments.watching import parse_list_id, watch_list, watch_one
from shared.errors import NameTaken, NotFound
from shared.http import CurrentCaller, CurrentUnit, DnsLabel, Page, Paging, TransactionRoute
from shared.http.problems import raises
from shared.http.streams import EVENTS, LastEventId, event_stream, wants_events

router = APIRouter(
    route_class=TransactionRoute, tags=["deployments"], generate_unique_id_function=lambda route: route.name
)

Phase = Literal["Deploying", "Deployed", "Failed", "Stopping", "Stopped"]
Sort = Literal["id", "-id", "name", "-name", "updated_at", "-updated_at"]
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": EVENTS}}


@router.post(
    "/deployments",
    response_model=DeploymentView,
    status_code=201,
    responses=raises(*CHANGES, NameTaken),
    summary="Create a deployment",
)
async def create_deployment(body: PostDeployment, commands: CreatingCommands, answering: Answering) -> Response:
    """With only `model`, publishes that version: the id comes from the model's name, on the smallest instance type that
    the group may use, one replica, private."""
    accepted = await commands.create(body)
    return await answering.document(accepted, status=201, location=accepted.row.id)


@router.get("/deployments", response_model=Page[DeploymentView], responses=_EVENTS, summary="List deployments")
async def list_deployments(
    *,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    public_url: PublicUrl,
    q: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="words in id or name")] = None,
    group: Annotated[list[DnsLabel], Query(max_length=100, description="of these groups")] = [],  # noqa: B006 - FastAPI copies it for each request
    phase: Annotated[list[Phase], Query(description="in one of these phases")] = [],  # noqa: B006 - FastAPI copies it for each request
    mine: Annotated[bool, Query(description="deployed by me")] = False,
    sort: Annotated[Sort, Query(description="by `updated_at`, rows move while they are changed")] = "id",
    last_event_id: LastEventId = None,
) -> Response:
    """Of all groups. With `Accept: text/event-stream`: their changes."""
    where = queries.Filter(
        visible=caller.visible_groups,
        q=q,
        groups=group,
        phases=phase,
        created_by=caller.user if mine else None,
    )
    if wants_events(request):
        core = request.app.state.core
        last = parse_list_id(last_event_id)
        return event_stream(watch_list(core, where=where, last=last, public_url=public_url), stopping=core.stopping)
    after = paging.start(*queries.kinds_of(sort))
    rows = await queries.page(unit.session, where=where, sort=sort, after=after, limit=paging.limit)
    shown, following = paging.page(rows, key=lambda found: queries.sort_key(sort, found.row))
    items = [document(*found, public_url=public_url) for found in shown]
    total = await queries.count(unit.session, where=where) if paging.count else None
    return answer({"items": items, "next": following} | ({"total": total} if paging.count else {}))


@router.get("/deployments/{id}", response_model=DeploymentView, responses=_EVENTS, summary="One deployment")
async def get_deployment(
    *,
    deployment: DeploymentId,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    public_url: PublicUrl,
    last_event_id: LastEventId = None,
) -> Response:
    """Its document. With `Accept: text/event-stream`: the document now and whenever it changes."""
    found = await queries.deployment(unit.session, deployment)
    if found is None:
        raise NotFound.named("deployment", deployment)
    caller.require(found.row.group_id, kind="deployment", name=deployment)
    if wants_events(request):
        core = request.app.state.core
        events = watch_one(core, found.row.uid, last=last_event_id, public_url=public_url)
        return event_stream(events, stopping=core.stopping)
    return answer(document(*found, public_url=public_url), generation=found.row.generation)


@router.put(
    "/deployments/{id}",
    response_model=DeploymentView,
    responses=raises(*CHANGES, NameTaken) | {201: {"model": DeploymentView, "description": "It was created"}},
    summary="Apply a deployment",
)
async def put_deployment(
    deployment: DeploymentId, body: PutDeployment, commands: CurrentCommands, answering: Answering
) -> Response:
    """Says the whole desired state: makes the deployment if there is none (then `group` is needed); what is left out
    takes its default. Aliases are looked up again. The same once more changes nothing."""
    accepted = await commands.put(deployment, body)
    return await answering.document(accepted, status=201 if accepted.created else 200)


@router.patch(
    "/deployments/{id}",
    response_model=DeploymentView,
    responses=raises(*CHANGES),
    summary="Change a deployment",
)
async def update_deployment(
    deployment: DeploymentId, body: PatchDeployment, commands: CurrentCommands, answering: Answering
) -> Response:
    """A JSON merge patch. `versions` is one value, the whole list of those wanted; to change one version, patch
    `/versions/{number}`. Only versions whose own fields change get fresh replicas."""
    return await answering.document(await commands.patch(deployment, body))


@router.delete("/deployments/{id}", status_code=204, summary="Delete a deployment")
async def delete_deployment(
    deployment: DeploymentId, commands: CurrentCommands, answering: Answering, message: Message = ""
) -> None:
    """Its id is free at once; its replicas end once no request can reach them. The history stays. `wait=settled` waits
    until nothing of it is left."""
    answering.hold(await commands.delete(deployment, message=message))


@router.post("/deployments/{id}/stop", response_model=DeploymentView, summary="Stop a deployment")
async def stop_deployment(
    deployment: DeploymentId, commands: CurrentCommands, answering: Answering, body: Action | None = None
) -> Response:
    """Ends its replicas and keeps its address, which answers 503; it counts nothing against the quota."""
    message = body.message if body else ""
    return await answering.document(await commands.stop(deployment, message=message))


@router.post(
    "/deployments/{id}/start",
    response_model=DeploymentView,
    responses=raises(*ADMISSION),
    summary="Start a stopped deployment",
)
async def start_deployment(
    deployment: DeploymentId, commands: CurrentCommands, answering: Answering, body: Action | None = None
) -> Response:
    """As it was when it was stopped. Its group's quota must hold it again."""
    message = body.message if body else ""
    return await answering.document(await commands.start(deployment, message=message))


@router.post(
    "/deployments/{id}/redeploy", response_model=DeploymentView, responses=raises(*ADMISSION), summary="Redeploy"
)
async def redeploy_deployment(
    deployment: DeploymentId, commands: CurrentCommands, answering: Answering, body: Action | None = None
) -> Response:
    """The same specification with fresh replicas, rolling."""
    message = body.message if body else ""
    return await answering.document(await commands.redeploy(deployment, message=message))


@router.post(
    "/deployments/{id}/rollback",
    response_model=DeploymentView,
    responses=raises(*CHANGES),
    summary="Roll back to a revision",
)
async def roll_back_deployment(
    deployment: DeploymentId, body: RollBack, commands: CurrentCommands, answering: Answering
) -> Response:
    """The state of that revision becomes a new one. A stopped deployment stays stopped."""
    accepted = await commands.roll_back(deployment, revision=body.revision, message=body.message)
    return await answering.document(accepted)
