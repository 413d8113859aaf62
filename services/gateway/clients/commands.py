"""The only writer of clients. A row holds a hash, never a token."""

from datetime import datetime

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.clients.domain import CLIENTS_LIMIT
from services.gateway.clients.queries import Owner, count_clients
from shared import outbox
from shared.errors import LimitReached, NameTaken
from shared.events.gateway import CLIENT_CHANGED
from shared.schema import EndpointClient


async def add_client(
    session: AsyncSession, owner: Owner, name: str, *, sha1: str, expires_at: datetime | None, by: str
) -> EndpointClient:
    """Raises NameTaken, LimitReached."""
    # Several at once may go over the limit by as many: it guards Envoy's memory, and no promise hangs on it.
    if await count_clients(session, owner) >= CLIENTS_LIMIT:
        raise LimitReached(
            f"The deployment has {CLIENTS_LIMIT} clients; revoke those that are not needed.", limit=CLIENTS_LIMIT
        )
    statement = (
        insert(EndpointClient)
        .values(uid=owner.uid, name=name, sha1=sha1, expires_at=expires_at, created_by=by)
        .on_conflict_do_nothing()
        .returning(EndpointClient)
    )
    row = (await session.execute(statement)).scalar_one_or_none()
    if row is None:
        raise NameTaken(f"There is a client {name} already; rotate its token, or revoke it first.", client=name)
    await _changed(session, owner, name)
    return row


async def rotate_client(
    session: AsyncSession, owner: Owner, row: EndpointClient, *, sha1: str, expires_at: datetime | None
) -> None:
    row.sha1 = sha1
    row.expires_at = expires_at
    row.version += 1
    await session.flush()
    await _changed(session, owner, row.name)


async def revoke_client(session: AsyncSession, owner: Owner, row: EndpointClient) -> None:
    await session.delete(row)
    await session.flush()
    await _changed(session, owner, row.name)


async def _changed(session: AsyncSession, owner: Owner, name: str) -> None:
    await outbox.append(session, CLIENT_CHANGED, str(owner.uid), id=owner.id, client=name)
