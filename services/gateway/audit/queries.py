"""What is read of the audit log: pages, what follows a position, and the chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.audit.domain import BEGINNING, Head, Sealed
from shared.http import Caller
from shared.schema import AuditEntry

# What came later in the table's life stands at the end, where it is: lines that are sealed stay what they are.
# Rendered by the database: its text of a jsonb is the same on every machine and in every version.
_LINE = """(jsonb_build_array(id, at AT TIME ZONE 'UTC', service, user_id, group_id, action, method, path, outcome,
                             status, code, request_id, address, changes)
    || CASE WHEN token IS NULL THEN '[]' ELSE jsonb_build_array(token) END)::text AS line"""
_UNSEALED = text(f"""
    SELECT id, {_LINE} FROM audit_entries WHERE position IS NULL ORDER BY id LIMIT :limit
""")  # noqa: S608  # constants only
_CHAIN = text(f"""
    SELECT position, hash, {_LINE} FROM audit_entries WHERE position > :after ORDER BY position LIMIT :limit
""")  # noqa: S608  # constants only


@dataclass(frozen=True)
class Filter:
    """Each that is empty lets everything through."""

    users: Sequence[str] = ()
    groups: Sequence[str] = ()
    actions: Sequence[str] = ()
    outcome: str | None = None
    request_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def condition(self) -> ColumnElement[bool]:
        wanted: list[ColumnElement[bool]] = [true()]
        for names, column in (
            (self.users, AuditEntry.user_id),
            (self.groups, AuditEntry.group_id),
            (self.actions, AuditEntry.action),
        ):
            if names:
                wanted.append(column.in_(names))
        if self.outcome is not None:
            wanted.append(AuditEntry.outcome == self.outcome)
        if self.request_id is not None:
            wanted.append(AuditEntry.request_id == self.request_id)
        if self.start is not None:
            wanted.append(AuditEntry.at >= self.start)
        if self.end is not None:
            wanted.append(AuditEntry.at < self.end)
        return and_(*wanted)


def visible(caller: Caller) -> ColumnElement[bool]:
    """What they did themselves, and what was done in the groups that the action shows."""
    groups = caller.visible_groups
    if groups is None:
        return true()
    return or_(AuditEntry.user_id == caller.user, AuditEntry.group_id.in_(sorted(groups)) if groups else false())


async def page_of_entries(
    session: AsyncSession, where: ColumnElement[bool], *, after: tuple[Any, ...] | None, limit: int
) -> Sequence[AuditEntry]:
    """The newest first."""
    statement = select(AuditEntry).where(where).order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(AuditEntry.at, AuditEntry.id) < after)
    return (await session.execute(statement)).scalars().all()


async def count_entries(session: AsyncSession, where: ColumnElement[bool]) -> int:
    return int((await session.execute(select(func.count()).select_from(AuditEntry).where(where))).scalar_one())


async def entries_after(
    session: AsyncSession, where: ColumnElement[bool], *, position: int, until: int, limit: int
) -> Sequence[AuditEntry]:
    """In the order of the chain."""
    within = and_(where, AuditEntry.position > position, AuditEntry.position <= until)
    return (
        (await session.execute(select(AuditEntry).where(within).order_by(AuditEntry.position).limit(limit)))
        .scalars()
        .all()
    )


async def head(session: AsyncSession) -> Head:
    last = select(AuditEntry.position, AuditEntry.hash).where(AuditEntry.position.is_not(None))
    row = (await session.execute(last.order_by(AuditEntry.position.desc()).limit(1))).one_or_none()
    return Head(row.position, row.hash) if row else BEGINNING


async def unsealed(session: AsyncSession, *, limit: int) -> list[tuple[int, str]]:
    """`(id, line)` of those that wait for their place in the chain."""
    return [(row.id, row.line) for row in await session.execute(_UNSEALED, {"limit": limit})]


async def chain(session: AsyncSession, *, after: int, limit: int) -> list[Sealed]:
    rows = await session.execute(_CHAIN, {"after": after, "limit": limit})
    return [Sealed(row.position, row.hash, row.line) for row in rows]
