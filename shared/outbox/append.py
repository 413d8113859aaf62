"""The sender's half: the event is a row of the same transaction as its change.

A hint goes with each: whoever wants to be quick listens for that, whoever must be sure consumes the event.
"""

from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import HINTS
from shared.events import EventType, new_event

Entry = dict[str, Any]
"""A row of the outbox, with its hint."""


def appending(entries: str, *, beside: str = "") -> str:
    """Two common table expressions, `events` and `told`, which append the entries that the parameter `entries` holds (a
    JSON list). `beside` is another one, without a row of which they append nothing. Select `told` in the end."""
    also = f"{beside}, " if beside else ""
    return f"""
    events AS (
        INSERT INTO outbox (topic, key, event)
        SELECT topic, key, event
        FROM {also}ROWS FROM (jsonb_to_recordset({entries}) AS (topic text, key text, event jsonb))
            WITH ORDINALITY AS entry (topic, key, event, position)
        ORDER BY position
    ), told AS (
        SELECT count(pg_notify('{HINTS}', hint)) FROM {also}jsonb_to_recordset({entries}) AS entry (hint text)
    )"""  # noqa: S608  # constants only


_APPEND = text(f"WITH {appending(':entries')} SELECT * FROM told")  # noqa: S608  # constants only
_APPEND = _APPEND.bindparams(bindparam("entries", type_=JSONB))


def entry(contract: EventType, subject: str, **data: Any) -> Entry:
    event = new_event(contract, subject, data)
    return {
        "topic": contract.topic,
        "key": subject,
        "event": event.model_dump(mode="json", exclude_none=True),
        "hint": f"{contract.name} {subject}",
    }


async def append(session: AsyncSession, contract: EventType, subject: str, **data: Any) -> None:
    """Publish an event if, and only if, the session's transaction commits.

    Events of a subject keep the order of these calls; across transactions that is the order of the commits if each
    locks the subject's row before it appends.
    """
    await session.execute(_APPEND, {"entries": [entry(contract, subject, **data)]})
