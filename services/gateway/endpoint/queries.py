"""What the endpoint's page is made of."""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import NotFound
from shared.http import Caller
from shared.schema import Blob, Deployment, Route


async def endpoint_of(session: AsyncSession, deployment: str, caller: Caller) -> Row[Any]:
    """Raises NotFound."""
    columns = (
        Deployment.id, Deployment.group_id, Deployment.spec, Deployment.generation,
        Route.generation.label("recorded"), Route.endpoints_generation, Route.weights, Route.rejected,
    )  # fmt: skip
    statement = select(*columns).outerjoin(Route, Route.uid == Deployment.uid)
    row = (
        await session.execute(statement.where(Deployment.id == deployment, Deployment.deleted_at.is_(None)))
    ).one_or_none()
    if row is None:
        raise NotFound.named("deployment", deployment)
    caller.require(row.group_id, kind="deployment", name=deployment)
    return row


async def example(session: AsyncSession, digest: str | None) -> dict[str, Any] | None:
    """The request that came with the uploaded model. Table of the registry."""
    return (await session.execute(select(Blob.example).where(Blob.digest == digest))).scalar_one_or_none()
