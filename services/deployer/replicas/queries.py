"""Every SELECT about replicas and the deployment log."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import DeploymentStep, Replica


async def page(
    session: AsyncSession, uid: UUID, *, versions: Sequence[int], after: tuple[Any, ...] | None, limit: int
) -> Sequence[Replica]:
    """By version and id, which never change; one more than `limit`, if there is one."""
    statement = select(Replica).where(*_of(uid, versions)).order_by(Replica.version, Replica.id).limit(limit + 1)
    if after is not None:
        statement = statement.where(tuple_(Replica.version, Replica.id) > tuple_(*after))
    return (await session.execute(statement)).scalars().all()


async def count(session: AsyncSession, uid: UUID, *, versions: Sequence[int]) -> int:
    statement = select(func.count()).select_from(Replica).where(*_of(uid, versions))
    return (await session.execute(statement)).scalar_one()


def _of(uid: UUID, versions: Sequence[int]) -> list[ColumnElement[bool]]:
    return [Replica.uid == uid, *([Replica.version.in_(versions)] if versions else [])]


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
