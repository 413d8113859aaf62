"""What is read of uploaded bytes, and who may see them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, cast, exists, or_, select, true
from sqlalchemy.dialects.postgresql import TEXT, array
from sqlalchemy.ext.asyncio import AsyncSession

from shared.http import Caller
from shared.schema import Blob, BlobUpload, Model, ModelVersion


async def sizes(session: AsyncSession, digests: Collection[str], *, caller: Caller) -> dict[str, int]:
    """Digest → size of those that the caller may name: has uploaded, or may read a version that consists of them."""
    statement = select(Blob.digest, Blob.size).where(Blob.digest.in_(digests), _may_name(caller))
    return {row.digest: row.size for row in await session.execute(statement)}


async def size(session: AsyncSession, digest: str) -> int | None:
    return (await session.execute(select(Blob.size).where(Blob.digest == digest))).scalar_one_or_none()


async def example(session: AsyncSession, digest: str | None) -> dict[str, Any] | None:
    """The example request that the bytes hold; None of an artifact that is not one upload."""
    return (await session.execute(select(Blob.example).where(Blob.digest == digest))).scalar_one_or_none()


def _may_name(caller: Caller) -> ColumnElement[bool]:
    if caller.visible_groups is None:
        return true()
    uploaded = exists().where(BlobUpload.digest == Blob.digest, BlobUpload.user_id == caller.user)
    readable = (
        exists()
        .where(ModelVersion.digests.contains(array([cast(Blob.digest, TEXT)])))
        .where(Model.id == ModelVersion.model_id, Model.group_id.in_(caller.visible_groups))
    )
    return or_(uploaded, readable)
