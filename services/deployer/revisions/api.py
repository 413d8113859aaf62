"""`/deployments/{id}/revisions`: the history, readable also once the deployment is deleted."""

from typing import Annotated, cast

from fastapi import APIRouter, Path, Response

from services.deployer.deployments.dependencies import DeploymentId
from services.deployer.deployments.diff import difference, masked
from services.deployer.deployments.domain import Spec
from services.deployer.deployments.queries import with_history
from services.deployer.revisions import queries
from services.deployer.revisions.schemas import RevisionView
from shared.errors import NotFound
from shared.http import TAGGED, CurrentCaller, CurrentUnit, Page, Paging, TransactionRoute, etag
from shared.schema import Deployment, Revision

router = APIRouter(
    route_class=TransactionRoute, tags=["revisions"], generate_unique_id_function=lambda route: route.name
)

Number = Annotated[int, Path(ge=1, le=2**53, description="the revision's number")]


@router.get("/deployments/{id}/revisions", response_model=Page[RevisionView], summary="List the revisions")
async def list_revisions(deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit, paging: Paging) -> object:
    """The newest first. After a deletion: of the deployment that had this id last; by its `uid`, of that one."""
    row = await _readable(deployment, caller, unit)
    found = await queries.page(unit.session, row.uid, after=paging.start(int), limit=paging.limit)
    before = {revision.number: revision for revision in found}
    shown, following = paging.page(found[: paging.limit + 1], key=lambda revision: (revision.number,))
    total = await queries.count(unit.session, row.uid) if paging.count else None
    items = [_view(revision, before.get(revision.number - 1)) for revision in shown]
    return Page[RevisionView].model_construct(items=items, next=following, total=total)


@router.get("/deployments/{id}/revisions/{number}", responses=TAGGED, summary="One revision")
async def get_revision(
    deployment: DeploymentId, number: Number, caller: CurrentCaller, unit: CurrentUnit, response: Response
) -> RevisionView:
    """It never changes, and neither does its ETag."""
    row = await _readable(deployment, caller, unit)
    found, before = await queries.pair(unit.session, row.uid, number)
    if found is None:
        raise NotFound.named("revision", f"{deployment}/revisions/{number}")
    response.headers["ETag"] = etag(number)
    return _view(found, before)


async def _readable(deployment: str, caller: CurrentCaller, unit: CurrentUnit) -> Deployment:
    row = await with_history(unit.session, deployment)
    if row is None:
        raise NotFound.named("deployment", deployment)
    caller.require(row.group_id, kind="deployment", name=deployment)
    return row


def _view(revision: Revision, before: Revision | None) -> RevisionView:
    spec = cast(Spec, revision.spec)
    diff = difference(
        cast(Spec, before.spec) if before else None,
        spec,
        stopped_before=before.stopped if before else False,
        stopped_after=revision.stopped,
    )
    return RevisionView.model_validate(
        {
            "number": revision.number,
            "at": revision.at,
            "by": revision.by,
            "action": revision.action,
            "message": revision.message,
            "spec": {**spec, "versions": [masked(version) for version in spec["versions"]]},
            "diff": diff,
            "stopped": revision.stopped,
        }
    )
