"""What is read of uploaded bytes, and who may see them."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, cast, exists, func, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB, TEXT, array
from sqlalchemy.ext.asyncio import AsyncSession

from shared.http import Caller
from shared.schema import Blob, BlobUpload, Model, ModelVersion, Revision


async def hold(session: AsyncSession, digests: Collection[str], *, caller: Caller) -> dict[str, int]:
    """Digest → size of those that the caller may name: has uploaded, or may read a version that consists of them. They
    are held until the transaction ends, so that they are not collected before the version that names them is there."""
    statement = select(Blob.digest, Blob.size).where(Blob.digest.in_(digests), _may_name(caller))
    held = statement.order_by(Blob.digest).with_for_update(read=True, key_share=True, of=Blob)
    return {row.digest: row.size for row in await session.execute(held)}


async def find(session: AsyncSession, digest: str, *, caller: Caller | None) -> Blob | None:
    """If the caller may name it; None may name anything."""
    wanted = [Blob.digest == digest] + ([] if caller is None else [_may_name(caller)])
    return (await session.execute(select(Blob).where(*wanted))).scalar_one_or_none()


async def place(session: AsyncSession, digest: str, *, hold: bool = False) -> str | None:
    statement = select(Blob.place).where(Blob.digest == digest)
    held = statement.with_for_update(read=True, key_share=True) if hold else statement
    return (await session.execute(held)).scalar_one_or_none()


async def places(session: AsyncSession, digests: Collection[str]) -> set[str | None]:
    return set((await session.execute(select(Blob.place).where(Blob.digest.in_(digests)))).scalars())


async def collectable(
    session: AsyncSession, *, beyond: str, unused_for: timedelta, limit: int
) -> tuple[Sequence[str], str | None]:
    """Of the next `limit` digests after `beyond`, those that seem unneeded, their rows held; and the last one looked
    at, None at the end. Whoever is just being registered is passed over."""
    looked = (
        await session.execute(select(Blob.digest).where(Blob.digest > beyond).order_by(Blob.digest).limit(limit))
    ).scalars().all()  # fmt: skip
    statement = select(Blob.digest).where(Blob.digest.in_(looked), unneeded(unused_for))
    held = await session.execute(statement.order_by(Blob.digest).with_for_update(skip_locked=True, of=Blob))
    return held.scalars().all(), looked[-1] if len(looked) == limit else None


def unneeded(unused_for: timedelta) -> ColumnElement[bool]:
    """No version consists of it, no revision names it, and nobody has uploaded it of late. (What is deployed is one
    upload: a revision names it by its digest.)"""
    # Word for word the expression of the index.
    of_revision = literal_column("(revisions.spec -> 'versions')", JSONB)
    named = func.jsonb_build_array(func.jsonb_build_object("digest", Blob.digest))
    return and_(
        ~exists().where(ModelVersion.digests.contains(array([cast(Blob.digest, TEXT)]))),
        ~exists(select(Revision.uid).where(of_revision.op("@>")(named))),
        ~exists().where(BlobUpload.digest == Blob.digest, BlobUpload.at > func.now() - unused_for),
    )


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
