"""Following the audit log: entries in the order of the chain, each once, resumable by position."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from sqlalchemy import ColumnElement

from services.gateway.audit import queries
from services.gateway.audit.schemas import EntryView
from services.gateway.audit.sealer import SEALED
from services.gateway.audit.views import view
from shared.errors import ValidationFailed
from shared.http.streams import ServerEvent
from shared.service import Core

_POLL = 5.0  # for a hint that was lost
_BATCH = 500


def parse_position(last: str | None) -> int | None:
    """Raises ValidationFailed."""
    if last is None:
        return None
    if not (last.isascii() and last.isdecimal() and len(last) <= 18):
        raise ValidationFailed.of("header/Last-Event-ID", "is not an event id of this list")
    return int(last)


async def follow(core: Core, where: ColumnElement[bool], *, after: int | None) -> AsyncGenerator[ServerEvent]:
    """What is sealed after the position `after`, or from now on."""
    changed = asyncio.Event()
    end = core.hints.listen(lambda kind, _: changed.set() if kind in (SEALED, "") else None)
    try:
        async with core.reading() as session:
            position = (await queries.head(session)).position if after is None else after
        yield ServerEvent(id=str(position), event="ready", data="{}")
        while True:
            changed.clear()
            async with core.reading() as session:
                until = (await queries.head(session)).position
                rows = await queries.entries_after(session, where, position=position, until=until, limit=_BATCH)
            for row in rows:
                shown: EntryView = view(row)
                yield ServerEvent(id=str(row.position), event="entry", data=shown.model_dump_json())
            if len(rows) == _BATCH:
                position = rows[-1].position or position
                continue
            position = max(position, until)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _POLL)
    finally:
        end()
