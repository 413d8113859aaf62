"""Every write of what is known of uploaded bytes."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts.store import Stored
from shared.schema import Blob, BlobUpload


async def record(session: AsyncSession, stored: Stored, *, user: str) -> None:
    """The bytes are here, and the user has shown them to us. Again changes nothing, but that bytes which came before
    examples were looked for get theirs."""
    blob = insert(Blob).values(digest=stored.digest, size=stored.size, example=stored.example, created_by=user)
    found = blob.excluded.example
    unseen = Blob.example.is_(None) & found.is_not(None)
    await session.execute(blob.on_conflict_do_update(index_elements=["digest"], set_={"example": found}, where=unseen))
    upload = insert(BlobUpload).values(digest=stored.digest, user_id=user)
    await session.execute(upload.on_conflict_do_nothing())
