"""Watching deployments: the states of one, or of a list, as events while they change.

An event is the document as it is now, not a log entry: states that follow each other fast may come as one, none is
missed. Hints say when to look; a look every few seconds finds what a lost hint left.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from services.deployer.deployments import queries
from services.deployer.deployments.views import document, state_id
from shared.errors import ValidationFailed
from shared.http.streams import ServerEvent
from shared.service import Core

__all__ = ["parse_list_id", "watch_list", "watch_one"]

_POLL = 5.0
_OVERLAP = timedelta(seconds=30)
"""A transaction that began earlier may commit later by as much."""
_BATCH = 1000
"""Rows that are read at a time."""


def parse_list_id(last: str | None) -> datetime | None:
    """A list's event id is the moment up to which it had been looked through. Raises ValidationFailed."""
    try:
        at = datetime.fromisoformat(last) if last else None
    except ValueError:
        at = None
    if last and (at is None or at.tzinfo is None):
        raise ValidationFailed.of("header/Last-Event-ID", "is not an event id of this list")
    return at


async def watch_one(core: Core, uid: UUID, *, last: str | None, public_url: str) -> AsyncGenerator[ServerEvent]:
    """The state now, unless it is the one of the event `last`, then each further one; ends with the deletion."""
    seen = last
    async with core.hints.changes(str(uid)) as changed:
        while True:
            changed.clear()
            async with core.reading() as session:
                found = await queries.deployment_by_uid(session, uid)
            if found is None:
                return
            if (state := state_id(*found)) != seen:
                seen = state
                yield _event(found, id_=state, public_url=public_url)
            if found.row.deleted_at is not None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _POLL)


async def watch_list(
    core: Core, *, where: queries.Filter, last: datetime | None, public_url: str
) -> AsyncGenerator[ServerEvent]:
    """First `ready`, then what changes from then on, or since the event `last`. A client that lists after `ready`
    has missed nothing. A deployment that no longer fits the filter just falls silent, but a deletion is said."""
    changed = asyncio.Event()
    end = core.hints.listen(lambda kind, _: changed.set() if kind in _WAKING or not kind else None)
    states: dict[UUID, str] = {}
    try:
        async with core.reading() as session:
            since = last or await queries.clock(session)
        yield ServerEvent(id=since.isoformat(), event="ready", data="{}")
        # What was there before is not news, though the overlap finds it; a resumed client may hear it again.
        if last is None:
            async for found in _changes(core, where=where, since=since - _OVERLAP):
                states |= {each.row.uid: state_id(*each) for each in found}
        while True:
            changed.clear()
            async with core.reading() as session:
                now = await queries.clock(session)
            recent: dict[UUID, str] = {}
            async for found in _changes(core, where=where, since=since - _OVERLAP):
                for each in found:
                    uid, state = each.row.uid, state_id(*each)
                    known, recent[uid] = recent.get(uid, states.get(uid)), state
                    if known != state:
                        # Not `now`: whoever comes back from here has not heard what is still to follow.
                        yield _event(each, id_=since.isoformat(), public_url=public_url)
            since, states = now, recent
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _POLL)
    finally:
        end()


async def _changes(core: Core, *, where: queries.Filter, since: datetime) -> AsyncGenerator[Sequence[queries.Found]]:
    """All of them, in pieces; no connection is held while somebody reads them."""
    after = None
    while True:
        async with core.reading() as session:
            found = await queries.changed_since(session, where=where, since=since, after=after, limit=_BATCH)
        yield found
        if len(found) < _BATCH:
            return
        after = (found[-1].row.status_at, found[-1].row.uid)


_WAKING = frozenset({"moorage.deployment.changed", "moorage.deployment.status", "moorage.route.enforced"})


def _event(found: queries.Found, *, id_: str, public_url: str) -> ServerEvent:
    row, route = found
    data = orjson.dumps(document(row, route, public_url=public_url)).decode()
    return ServerEvent(id=id_, event="deleted" if row.deleted_at else "changed", data=data)
