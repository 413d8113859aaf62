"""Every SELECT about replicas and the deployment log."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import DeploymentStep, Replica


async def replicas(session: AsyncSession, uid: UUID, *, version: int | None = None) -> Sequence[Replica]:
    statement = select(Replica).where(Replica.uid == uid).order_by(Replica.version, Replica.started_at, Replica.id)
    if version is not None:
        statement = statement.where(Replica.version == version)
    return (await session.execute(statement)).scalars().all()


async def replica(session: AsyncSession, uid: UUID, id: str) -> Replica | None:  # noqa: A002  # the API's word
    statement = select(Replica).where(Replica.uid == uid, Replica.id == id)
    return (await session.execute(statement)).scalar_one_or_none()


async def steps(
    session: AsyncSession, uid: UUID, *, after: tuple[Any, ...] | None, limit: int
) -> Sequence[DeploymentStep]:
    """The newest first, one more than `limit`."""
    statement = select(DeploymentStep).where(DeploymentStep.uid == uid).order_by(DeploymentStep.id.desc())
    if after is not None:
        statement = statement.where(DeploymentStep.id < after[0])
    return (await session.execute(statement.limit(limit + 1))).scalars().all()


async def count_steps(session: AsyncSession, uid: UUID) -> int:
    statement = select(func.count()).select_from(DeploymentStep).where(DeploymentStep.uid == uid)
    return (await session.execute(statement)).scalar_one()
