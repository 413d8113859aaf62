"""What is read of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.models.domain import tsquery
from services.registry.parameters import after
from shared.errors import NotFound
from shared.http import Caller, PageQuery
from shared.schema import Model, ModelAlias, ModelVersion


@dataclass(frozen=True)
class Filter:
    words: str | None = None
    groups: Sequence[str] = ()
    frameworks: Sequence[str] = ()
    tags: Sequence[str] = ()
    created_by: str | None = None


Found = Row[Model, int | None, Any, dict[str, int] | None]
"""A model; its latest version's number and metrics; its aliases."""


async def find(session: AsyncSession, group: str, name: str, *, lock: bool = False) -> Model:
    """Raises NotFound. `lock` holds it, so that its versions are numbered one at a time."""
    statement = select(Model).where(Model.group_id == group, Model.name == name)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = (await session.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound.named("model", f"{group}/{name}")
    return found


async def show(session: AsyncSession, group: str, name: str) -> Found:
    """Raises NotFound."""
    statement = _with_latest().where(Model.group_id == group, Model.name == name)
    found: Found | None = (await session.execute(statement.execution_options(populate_existing=True))).one_or_none()
    if found is None:
        raise NotFound.named("model", f"{group}/{name}")
    return found


async def page(
    session: AsyncSession, *, caller: Caller, wanted: Filter, sort: str, paging: PageQuery
) -> tuple[Sequence[Found], int | None]:
    """`limit + 1` rows, and the total if it was asked for."""
    conditions = _conditions(caller, wanted)
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(Model).where(*conditions))).scalar_one()
    # The page is cut before the latest versions are looked up, so that these are looked up for the page only.
    ids = select(Model.id).where(*conditions).limit(paging.limit + 1)
    order: tuple[ColumnElement[Any], ...]
    match sort:
        case "name":
            order = (Model.group_id.asc(), Model.name.asc())
            if key := after(paging, str, str):
                ids = ids.where(tuple_(Model.group_id, Model.name) > key)
        case "-created_at":
            order = (Model.id.desc(),)  # ids rise with time
            if key := after(paging, int):
                ids = ids.where(Model.id < key[0])
        case _:
            order = (Model.updated_at.desc(), Model.id.desc())
            if key := after(paging, datetime, int):
                ids = ids.where(tuple_(Model.updated_at, Model.id) < key)
    cut = ids.order_by(*order).subquery()
    rows = await session.execute(_with_latest().join(cut, cut.c.id == Model.id).order_by(*order))
    return rows.all(), total


async def aliases(session: AsyncSession, model_id: int) -> dict[str, int]:
    rows = await session.execute(select(ModelAlias.alias, ModelAlias.number).where(ModelAlias.model_id == model_id))
    return {row.alias: row.number for row in rows}


async def numbers(session: AsyncSession, model_id: int, *, lock: bool = False) -> Sequence[int]:
    """Of its versions. `lock` holds these against deployments that would come to stand on them."""
    statement = select(ModelVersion.number).where(ModelVersion.model_id == model_id).order_by(ModelVersion.number)
    return (await session.execute(statement.with_for_update() if lock else statement)).scalars().all()


def _with_latest() -> Select[Model, int | None, Any, dict[str, int] | None]:
    latest = (
        select(ModelVersion.number, ModelVersion.metrics)
        .where(ModelVersion.model_id == Model.id)
        .order_by(ModelVersion.number.desc())
        .limit(1)
        .lateral("latest_version")
    )
    named = (
        select(func.jsonb_object_agg(ModelAlias.alias, ModelAlias.number))
        .where(ModelAlias.model_id == Model.id)
        .scalar_subquery()
    )
    return select(Model, latest.c.number, latest.c.metrics, named).outerjoin(latest, true())


def _conditions(caller: Caller, wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if caller.visible_groups is not None:
        conditions.append(Model.group_id.in_(sorted(caller.visible_groups)))
    if wanted.groups:
        conditions.append(Model.group_id.in_(wanted.groups))
    if wanted.frameworks:
        conditions.append(Model.framework.in_(wanted.frameworks))
    if wanted.tags:
        conditions.append(Model.tags.contains(literal(list(wanted.tags), ARRAY(TEXT))))
    if wanted.created_by is not None:
        conditions.append(Model.created_by == wanted.created_by)
    if wanted.words and wanted.words.strip():
        # Words that are only signs find nothing: an empty query matches no row.
        conditions.append(Model.search.op("@@")(func.to_tsquery("simple", tsquery(wanted.words))))
    return conditions
