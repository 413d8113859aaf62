"""Every write of what is known of uploaded bytes."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts.store import Stored
from shared.schema import Blob, BlobUpload


async def record(session: AsyncSession, stored: Stored, *, user: str) -> None:
    """The bytes are here, and the user has shown them to us. Again changes nothing."""
    blob = insert(Blob).values(digest=stored.digest, size=stored.size, created_by=user)
    await session.execute(blob.on_conflict_do_nothing())
    upload = insert(BlobUpload).values(digest=stored.digest, user_id=user)
    await session.execute(upload.on_conflict_do_nothing())
