"""What is read of clients, and of the deployment that they belong to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import NotFound
from shared.http import Caller
from shared.schema import Deployment, EndpointClient, request_samples


@dataclass(frozen=True)
class Owner:
    """The deployment, as far as its clients are concerned."""

    uid: UUID
    id: str
    group: str


async def owner_of(session: AsyncSession, deployment: str, caller: Caller) -> Owner:
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
    caller.require(row.group_id, kind="deployment", name=deployment)
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


async def count_overlaps(session: AsyncSession, owner: Owner, *, besides: str) -> int:
    """The other clients of which two tokens are let in."""
    statement = select(func.count()).where(
        EndpointClient.uid == owner.uid, EndpointClient.name != besides, EndpointClient.previous_until > func.now()
    )
    return int((await session.execute(statement)).scalar_one())


async def last_uses(session: AsyncSession, owner: Owner, names: Collection[str]) -> Mapping[str, datetime | None]:
    """When these clients were last let in, as exactly as the metrics service has kept it.

    A refused request is nobody's use: Envoy names the client once it has checked the token. What is older than the
    row was the use of one of the same name that has been revoked.
    """
    sample = request_samples.c
    newest = select(func.max(sample.at)).where(
        sample.uid == EndpointClient.uid,
        sample.client == EndpointClient.name,
        sample.client != "",  # as the index says
        sample.at >= EndpointClient.created_at,  # totals are of no time, and have 1970
    )
    statement = select(EndpointClient.name, newest.scalar_subquery())
    rows = await session.execute(statement.where(EndpointClient.uid == owner.uid, EndpointClient.name.in_(names)))
    return {name: at for name, at in rows}  # noqa: C416  # mypy does not take a Row for a pair
