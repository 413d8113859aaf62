"""What is read of clients, and of the deployment that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import NotFound
from shared.http import Caller, Permission
from shared.schema import Deployment, EndpointClient


@dataclass(frozen=True)
class Owner:
    """The deployment, as far as its clients are concerned."""

    uid: UUID
    id: str
    group: str


async def owner_of(session: AsyncSession, deployment: str, caller: Caller, permission: Permission) -> Owner:
    """Raises NotFound, PermissionDenied."""
    row = (
        await session.execute(
            select(Deployment.uid, Deployment.id, Deployment.group_id).where(
                Deployment.id == deployment, Deployment.deleted_at.is_(None)
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound.named("deployment", deployment)
    caller.require(permission, row.group_id, kind="deployment", name=deployment)
    return Owner(uid=row.uid, id=row.id, group=row.group_id)


async def client_of(session: AsyncSession, owner: Owner, name: str, *, for_update: bool = False) -> EndpointClient:
    """Raises NotFound."""
    row = await session.get(EndpointClient, (owner.uid, name), with_for_update=for_update)
    if row is None:
        raise NotFound.named("client", name)
    return row


async def page_of_clients(
    session: AsyncSession, owner: Owner, *, after: str | None, limit: int
) -> Sequence[EndpointClient]:
    statement = select(EndpointClient).where(EndpointClient.uid == owner.uid).order_by(EndpointClient.name).limit(limit)
    if after is not None:
        statement = statement.where(EndpointClient.name > after)
    return (await session.execute(statement)).scalars().all()


async def count_clients(session: AsyncSession, owner: Owner) -> int:
    statement = select(func.count()).select_from(EndpointClient).where(EndpointClient.uid == owner.uid)
    return int((await session.execute(statement)).scalar_one())
