"""The only writer of clients. A row holds a hash, never a token."""

from datetime import datetime

from sqlalchemy import bindparam
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.clients.domain import CLIENTS_LIMIT, OVERLAPS_LIMIT, new_mark, new_token, overlap_end
from services.gateway.clients.queries import Owner, count_clients, count_overlaps
from shared import outbox
from shared.errors import LimitReached, NameTaken
from shared.events.gateway import CLIENT_CHANGED
from shared.schema import EndpointClient, Route

# A count, and no hash over the clients: one that is let in and out again leaves them as they were, and yet it matters
# whether an Envoy has heard of neither, or of the first alone.
_ONE_MORE = (
    insert(Route)
    .values(uid=bindparam("uid"), clients_generation=1)
    .on_conflict_do_update(index_elements=[Route.uid], set_={"clients_generation": Route.clients_generation + 1})
)


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
    session: AsyncSession,
    owner: Owner,
    row: EndpointClient,
    *,
    overlap: int,
    expires_at: datetime | None,
    now: datetime,
) -> str:
    """The new token. The one before is let in too for `overlap` seconds, but not beyond its own time; the one before
    that is not. Raises LimitReached."""
    until = overlap_end(overlap, expires_at=row.expires_at, now=now)
    if until is not None and await count_overlaps(session, owner, besides=row.name) >= OVERLAPS_LIMIT:
        raise LimitReached(
            f"{OVERLAPS_LIMIT} other clients of the deployment have two tokens now: rotate later, or without overlap.",
            limit=OVERLAPS_LIMIT,
        )
    row.version += 1
    mark = None if until is None else new_mark(row.name, row.version)
    token, sha1 = new_token(row.name, mark=mark or "")
    row.previous_sha1, row.previous_until, row.mark = (None if until is None else row.sha1), until, mark
    row.sha1 = sha1
    row.expires_at = expires_at
    await session.flush()
    await _changed(session, owner, row.name)
    return token


async def revoke_client(session: AsyncSession, owner: Owner, row: EndpointClient) -> None:
    await session.delete(row)
    await session.flush()
    await _changed(session, owner, row.name)


async def _changed(session: AsyncSession, owner: Owner, name: str) -> None:
    await session.execute(_ONE_MORE, {"uid": owner.uid})
    await outbox.append(session, CLIENT_CHANGED, str(owner.uid), id=owner.id, client=name)
