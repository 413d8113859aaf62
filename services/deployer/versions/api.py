"""`/deployments/{id}/versions`: the live versions behind one address."""

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import APIRouter, Path, Response

from services.deployer.deployments import queries
from services.deployer.deployments.dependencies import (
    ADMISSION,
    CHANGES,
    Answering,
    CurrentCommands,
    DeploymentId,
    Message,
    answer,
)
from services.deployer.deployments.domain import Spec, VersionSpec
from services.deployer.deployments.schemas import DeploymentView, LiveVersionView, NewVersion, PatchVersion
from services.deployer.deployments.views import version_view
from services.deployer.errors import AddressTaken, UnsupportedByPlatform
from services.deployer.versions.schemas import VersionList
from shared.errors import NotFound
from shared.http import TAGGED, CurrentCaller, CurrentUnit, TransactionRoute
from shared.http.problems import raises
from shared.schema import Deployment

router = APIRouter(
    route_class=TransactionRoute, tags=["versions"], generate_unique_id_function=lambda route: route.name
)

Number = Annotated[int, Path(ge=1, le=1_000_000, description="the version's number")]


@router.get("/deployments/{id}/versions", response_model=VersionList, summary="List the live versions")
async def list_versions(deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit) -> Response:
    """As they are wanted; how each of them fares, the deployment's `status` says."""
    row = await _read(deployment, caller, unit)
    return answer({"items": [version_view(version) for version in _versions(row)], "next": None})


@router.get("/deployments/{id}/versions/{number}", response_model=LiveVersionView, summary="One live version")
async def get_version(deployment: DeploymentId, number: Number, caller: CurrentCaller, unit: CurrentUnit) -> Response:
    """Its ETag is the deployment's, which is what changes with it."""
    row = await _read(deployment, caller, unit)
    for version in _versions(row):
        if version["number"] == number:
            return answer(version_view(version), generation=row.generation)
    raise NotFound.named("version", f"{deployment}/versions/{number}")


@router.post(
    "/deployments/{id}/versions",
    response_model=DeploymentView,
    status_code=201,
    responses=raises(*CHANGES),
    summary="Add a version",
)
async def add_version(
    deployment: DeploymentId, body: NewVersion, commands: CurrentCommands, answering: Answering
) -> Response:
    """Gets the next number, which was never used, and no traffic until weights say so. Answers the deployment."""
    accepted = await commands.add_version(deployment, body)
    location = f"{deployment}/versions/{accepted.row.last_version}"
    return await answering.document(accepted, status=201, location=location)


@router.put(
    "/deployments/{id}/versions/{number}",
    response_model=DeploymentView,
    responses=raises(*CHANGES),
    summary="Replace a version",
)
async def replace_version(
    deployment: DeploymentId, number: Number, body: NewVersion, commands: CurrentCommands, answering: Answering
) -> Response:
    """Changes what stands behind the number, rolling: its address stays. Answers the deployment."""
    return await answering.document(await commands.replace_version(deployment, number, body))


@router.patch(
    "/deployments/{id}/versions/{number}",
    response_model=DeploymentView,
    responses=raises(*ADMISSION, UnsupportedByPlatform, AddressTaken),
    summary="Change a version",
)
async def update_version(
    deployment: DeploymentId, number: Number, body: PatchVersion, commands: CurrentCommands, answering: Answering
) -> Response:
    """A JSON merge patch of one version: scale it, change its environment, its model. Answers the deployment."""
    return await answering.document(await commands.patch_version(deployment, number, body))


@router.delete(
    "/deployments/{id}/versions/{number}",
    response_model=DeploymentView,
    responses=TAGGED,
    summary="Delete a version",
)
async def delete_version(
    deployment: DeploymentId, number: Number, commands: CurrentCommands, answering: Answering, message: Message = ""
) -> Response:
    """Its share of the traffic goes to the others in proportion. Answers the deployment."""
    return await answering.document(await commands.delete_version(deployment, number, message=message))


async def _read(deployment: str, caller: CurrentCaller, unit: CurrentUnit) -> Deployment:
    found = await queries.deployment(unit.session, deployment)
    if found is None:
        raise NotFound.named("deployment", deployment)
    caller.require(found.row.group_id, kind="deployment", name=deployment)
    return found.row


def _versions(row: Deployment) -> Sequence[VersionSpec]:
    return cast(Spec, row.spec)["versions"]
