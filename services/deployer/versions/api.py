"""`/deployments/{id}/versions`: the live versions behind one address."""

from typing import Annotated

from fastapi import APIRouter, Path

from services.deployer.deployments import queries
from services.deployer.deployments.dependencies import (
    Answering,
    CurrentCommands,
    DeploymentId,
    Message,
    PublicUrl,
    Responses,
    error,
)
from services.deployer.deployments.schemas import DeploymentView, NewVersion, PatchVersion, VersionView
from services.deployer.deployments.views import document
from services.deployer.versions.schemas import VersionList
from shared.errors import NotFound
from shared.http import CurrentCaller, CurrentUnit, Permission, TransactionRoute

router = APIRouter(
    route_class=TransactionRoute, tags=["versions"], generate_unique_id_function=lambda route: route.name
)

Number = Annotated[int, Path(ge=1, le=1_000_000, description="the version's number")]
_REFUSALS: Responses = {
    403: error("Not permitted, or over the group's quota: `requested`, `used`, `limit` say by how much"),
    409: error("There are as many live versions as there may be"),
    412: error("The deployment has changed since the ETag given in If-Match"),
}


@router.get("/deployments/{id}/versions", summary="List the live versions")
async def list_versions(
    deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit, public_url: PublicUrl
) -> VersionList:
    return VersionList(items=(await _read(deployment, caller, unit, public_url)).versions)


@router.get("/deployments/{id}/versions/{number}", summary="One live version")
async def get_version(
    deployment: DeploymentId, number: Number, caller: CurrentCaller, unit: CurrentUnit, public_url: PublicUrl
) -> VersionView:
    versions = (await _read(deployment, caller, unit, public_url)).versions
    found = next((version for version in versions if version.number == number), None)
    if found is None:
        raise NotFound.named("version", f"{deployment}/versions/{number}")
    return found


@router.post("/deployments/{id}/versions", status_code=201, responses=_REFUSALS, summary="Add a version")
async def add_version(
    deployment: DeploymentId, body: NewVersion, commands: CurrentCommands, answering: Answering
) -> DeploymentView:
    """Gets the next number, which was never used, and no traffic until weights say so. Answers the deployment."""
    accepted = await commands.add_version(deployment, body)
    answering.response.headers["Location"] = f"/api/v1/deployments/{deployment}/versions/{accepted.row.last_version}"
    return await answering.document(accepted)


@router.put("/deployments/{id}/versions/{number}", responses=_REFUSALS, summary="Replace a version")
async def replace_version(
    deployment: DeploymentId, number: Number, body: NewVersion, commands: CurrentCommands, answering: Answering
) -> DeploymentView:
    """Changes what stands behind the number, rolling: its address stays. Answers the deployment."""
    return await answering.document(await commands.replace_version(deployment, number, body))


@router.patch("/deployments/{id}/versions/{number}", responses=_REFUSALS, summary="Change a version")
async def update_version(
    deployment: DeploymentId, number: Number, body: PatchVersion, commands: CurrentCommands, answering: Answering
) -> DeploymentView:
    """A JSON merge patch of one version: scale it, change its environment, its model. Answers the deployment."""
    return await answering.document(await commands.patch_version(deployment, number, body))


@router.delete("/deployments/{id}/versions/{number}", responses=_REFUSALS, summary="Delete a version")
async def delete_version(
    deployment: DeploymentId, number: Number, commands: CurrentCommands, answering: Answering, message: Message = ""
) -> DeploymentView:
    """Its share of the traffic goes to the others in proportion. Answers the deployment."""
    return await answering.document(await commands.delete_version(deployment, number, message=message))


async def _read(deployment: str, caller: CurrentCaller, unit: CurrentUnit, public_url: str) -> DeploymentView:
    found = await queries.deployment(unit.session, deployment)
    if found is None:
        raise NotFound.named("deployment", deployment)
    caller.require(Permission.READ, found.row.group_id, kind="deployment", name=deployment)
    return document(*found, public_url=public_url)
