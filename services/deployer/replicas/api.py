"""`/deployments/{id}/replicas`, what each of them printed, and `/log`: what the platform did, step by step."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.deployer.deployments.dependencies import DeploymentId
from services.deployer.deployments.queries import deployment as find_deployment
from services.deployer.deployments.queries import with_history
from services.deployer.platforms import Platform, PlatformError, ReplicaNotFound
from services.deployer.replicas import queries
from services.deployer.replicas.schemas import ReplicaView, StepView
from services.deployer.replicas.streams import first, followed, whole
from shared.errors import NotFound, Unavailable
from shared.http import (
    TAGGED,
    CurrentCaller,
    CurrentUnit,
    Page,
    Paging,
    TransactionRoute,
    content_etag,
)
from shared.schema import Deployment, Replica

router = APIRouter(
    route_class=TransactionRoute, tags=["replicas"], generate_unique_id_function=lambda route: route.name
)

LONGEST_TAIL = 2000
Number = Annotated[int, Field(ge=1, le=1_000_000)]
ReplicaId = Annotated[
    str, Path(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63, description="the replica's id")
]
_LINES = "2031-07-01T12:00:00.000000Z loading /models/1\n2031-07-01T12:00:01.250000Z ready\n"
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "lines, oldest first",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": _LINES}},
    }
}


@router.get("/deployments/{id}/replicas", response_model=Page[ReplicaView], summary="List the replicas")
async def list_replicas(
    *,
    deployment: DeploymentId,
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    version: Annotated[list[Number], Query(max_length=100, description="of these versions")] = [],  # noqa: B006 - FastAPI copies it for each request
) -> object:
    """Those that run, and those that have ended as long as their output is kept."""
    row = await _live(deployment, caller, unit)
    after = paging.start(int, str)
    found = await queries.page(unit.session, row.uid, versions=version, after=after, limit=paging.limit)
    shown, following = paging.page(found, key=lambda replica: (replica.version, replica.id))
    total = await queries.count(unit.session, row.uid, versions=version) if paging.count else None
    items = [_view(replica) for replica in shown]
    return Page[ReplicaView].model_construct(items=items, next=following, total=total)


@router.get("/deployments/{id}/replicas/{replica}", responses=TAGGED, summary="One replica")
async def get_replica(
    *, deployment: DeploymentId, replica: ReplicaId, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> ReplicaView:
    """As it was seen last."""
    view = _view(await _replica(deployment, replica, caller, unit))
    response.headers["ETag"] = content_etag(view.model_dump_json().encode())
    return view


@router.get(
    "/deployments/{id}/replicas/{replica}/log",
    response_class=StreamingResponse,
    responses=_TEXT,
    summary="What a replica printed",
)
async def get_replica_log(
    *,
    deployment: DeploymentId,
    replica: ReplicaId,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    tail: Annotated[int, Query(ge=0, le=LONGEST_TAIL, description="the last so many lines")] = LONGEST_TAIL,
    follow: Annotated[bool, Query(description="go on with each new line, for five minutes at most")] = False,
    previous: Annotated[bool, Query(description="of the run before this one, which has ended")] = False,
    download: Annotated[bool, Query(description="all that is kept, as a file")] = False,
) -> StreamingResponse:
    """Each line begins with its time in UTC (RFC 3339). `follow` ends with the replica, and after five minutes: ask
    again, with `tail=0`, to go on; whether you may is then looked at again."""
    uid = (await _replica(deployment, replica, caller, unit)).uid
    platform: Platform = request.app.state.platform
    try:
        # While the answer can still be 404.
        await first(platform.logs(uid, replica, tail=0, previous=previous))
    except ReplicaNotFound as error:
        what = f"{deployment}/replicas/{replica}" + (" (previous run)" if previous else "")
        raise NotFound.named("log of replica", what) from error
    except PlatformError as error:
        raise Unavailable(f"The log cannot be read: {error}.", retry_after=5.0) from error
    lines = platform.logs(uid, replica, tail=None if download else tail, follow=follow, previous=previous)
    headers = {"X-Accel-Buffering": "no"}
    if download:
        headers["Content-Disposition"] = f'attachment; filename="{replica}{"-previous" if previous else ""}.log"'
    body = followed(lines, stopping=request.app.state.core.stopping) if follow else whole(lines)
    return StreamingResponse(body, media_type="text/plain", headers=headers)


@router.get("/deployments/{id}/log", response_model=Page[StepView], summary="The deployment log")
async def list_steps(deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit, paging: Paging) -> object:
    """What the platform did, step by step, the newest first; kept also after the deletion."""
    row = await with_history(unit.session, deployment)
    row = _readable(row, deployment, caller)
    found = await queries.steps(unit.session, row.uid, after=paging.start(int), limit=paging.limit)
    shown, following = paging.page(found, key=lambda step: (step.id,))
    total = await queries.count_steps(unit.session, row.uid) if paging.count else None
    items = [StepView(at=step.at, step=step.step, message=step.message) for step in shown]
    return Page[StepView].model_construct(items=items, next=following, total=total)


async def _replica(deployment: str, replica: str, caller: CurrentCaller, unit: CurrentUnit) -> Replica:
    row = await _live(deployment, caller, unit)
    found = await queries.replica(unit.session, row.uid, replica)
    if found is None:
        raise NotFound.named("replica", f"{deployment}/replicas/{replica}")
    return found


async def _live(deployment: str, caller: CurrentCaller, unit: CurrentUnit) -> Deployment:
    found = await find_deployment(unit.session, deployment)
    return _readable(found.row if found else None, deployment, caller)


def _readable(row: Deployment | None, deployment: str, caller: CurrentCaller) -> Deployment:
    if row is None:
        raise NotFound.named("deployment", deployment)
    caller.require(row.group_id, kind="deployment", name=deployment)
    return row


def _view(replica: Replica) -> ReplicaView:
    return ReplicaView.model_validate(
        {
            "id": replica.id,
            "version": replica.version,
            "phase": replica.phase,
            "address": f"{replica.host}:{replica.port}" if replica.port else None,
            "routable": replica.routable,
            "restarts": replica.restarts,
            "started_at": replica.started_at,
            "failure": replica.failure,
        }
    )
