"""Bytes that have come in become ones that we keep: in the storage, by content once, with their row.

Storage first, row second, each by itself: a crash between the two leaves bytes that no row names, which the collector
removes. If the same bytes came twice at once, one row wins and the other bytes go.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts import commands, queries
from services.registry.artifacts.storage import Storage, new_place
from services.registry.artifacts.store import Received
from shared.errors import Unavailable
from shared.telemetry import get_logger

log = get_logger(__name__)


async def admit(session: AsyncSession, storage: Storage, received: Received, *, user: str) -> None:
    """The session holds no connection until the bytes are kept. Raises Unavailable if the storage is away."""
    known = await queries.place(session, received.digest)
    await session.rollback()
    try:
        found = await storage.find(known) if known else None
        if known and found and found.size == received.size:
            # It may have been collected meanwhile; if it is still there, it is held until the upload is on record.
            if await queries.place(session, received.digest, hold=True) == known:
                await commands.record(session, received, place=known, user=user)
                return
            await session.rollback()
        place = new_place(received.digest)
        await storage.keep(received.path, place)
    except OSError as error:
        if error.errno is not None:
            raise
        log.exception("upload.storage_away", digest=received.digest)
        raise Unavailable("The registry's storage cannot be reached; send the bytes again.", retry_after=10) from error
    kept = await commands.record(session, received, place=place, user=user, instead_of=known)
    if kept != place:
        await storage.remove(place)
