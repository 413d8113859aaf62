"""Every write of what is known of uploaded bytes."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts import queries
from services.registry.artifacts.store import Received
from shared.schema import Blob, BlobUpload


async def record(
    session: AsyncSession, received: Received, *, place: str, user: str, instead_of: str | None = None
) -> str:
    """The bytes are here, and the user has shown them to us. Answers the place that counts: `place`, or that of the
    same bytes which came before. Bytes that are damaged, or lie `instead_of` here where they were not found whole, get
    the new place; those that came before examples were looked for, or BLAKE3 was noted, get theirs."""
    blob = insert(Blob).values(
        digest=received.digest,
        blake3=received.blake3,
        size=received.size,
        place=place,
        example=received.example,
        created_by=user,
    )
    fresh = blob.excluded
    lost = or_(Blob.place.is_(None), Blob.place == instead_of)
    mended = blob.on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "blake3": fresh.blake3,
            "example": func.coalesce(Blob.example, fresh.example),
            "place": func.coalesce(func.nullif(Blob.place, instead_of), fresh.place),
        },
        where=lost | Blob.blake3.is_(None) | (Blob.example.is_(None) & fresh.example.is_not(None)),
    ).returning(Blob.place)
    kept = (await session.execute(mended)).scalar_one_or_none() or await queries.place(session, received.digest)
    upload = insert(BlobUpload).values(digest=received.digest, user_id=user)
    again = upload.on_conflict_do_update(index_elements=["digest", "user_id"], set_={"at": func.now()})
    await session.execute(again)
    return kept or place


async def damaged(session: AsyncSession, digest: str, *, place: str) -> bool:
    """What lies there is not what was uploaded: nobody gets it any more, until it is uploaded again."""
    statement = update(Blob).where(Blob.digest == digest, Blob.place == place).values(place=None)
    return bool((await session.execute(statement.returning(Blob.digest))).scalar_one_or_none())


async def forget(session: AsyncSession, digests: Sequence[str], *, unused_for: timedelta) -> list[str]:
    """Those of them that nobody needs any more; answers their places. The caller holds their rows: whoever registered
    one before has committed and is seen here, whoever comes later finds it gone."""
    statement = delete(Blob).where(Blob.digest.in_(digests), queries.unneeded(unused_for)).returning(Blob.place)
    return [place for place in (await session.execute(statement)).scalars() if place]
