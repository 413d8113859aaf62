"""What is read of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Subquery, func, literal, select, true, tuple_, union_all
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


@dataclass(frozen=True)
class _Order:
    """Names of columns, what they hold, and whether the largest come first."""

    columns: tuple[str, ...]
    kinds: tuple[type, ...]
    descending: bool

    def of(self, table: object) -> list[ColumnElement[Any]]:
        """For ORDER BY. `table` has the columns as its attributes."""
        columns = [getattr(table, name) for name in self.columns]
        return [each.desc() for each in columns] if self.descending else columns

    def follows(self, key: tuple[Any, ...]) -> ColumnElement[bool]:
        place = tuple_(*(getattr(Model, name) for name in self.columns))
        return place < key if self.descending else place > key


_ORDERS = {
    "name": _Order(("group_id", "name"), (str, str), descending=False),
    "-created_at": _Order(("id",), (int,), descending=True),  # ids rise with time
    "-updated_at": _Order(("updated_at", "id"), (datetime, int), descending=True),
}

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
    order = _ORDERS[sort]
    if key := after(paging, *order.kinds):
        conditions.append(order.follows(key))
    # The page is cut before the latest versions are looked up, so that these are looked up for the page only.
    # What else is looked for has few models, which are not to be gone through for each framework.
    split = wanted.frameworks if not (wanted.words or wanted.tags or wanted.created_by) else ()
    cut = _cut(conditions, order, frameworks=split, limit=paging.limit + 1)
    rows = await session.execute(_with_latest().join(cut, cut.c.id == Model.id).order_by(*order.of(Model)))
    return rows.all(), total


async def aliases(session: AsyncSession, model_id: int) -> dict[str, int]:
    rows = await session.execute(select(ModelAlias.alias, ModelAlias.number).where(ModelAlias.model_id == model_id))
    return {row.alias: row.number for row in rows}


async def numbers(session: AsyncSession, model_id: int, *, lock: bool = False) -> Sequence[int]:
    """Of its versions. `lock` holds these against deployments that would come to stand on them."""
    statement = select(ModelVersion.number).where(ModelVersion.model_id == model_id).order_by(ModelVersion.number)
    return (await session.execute(statement.with_for_update() if lock else statement)).scalars().all()


def _cut(
    conditions: Sequence[ColumnElement[bool]], order: _Order, *, frameworks: Sequence[str], limit: int
) -> Subquery:
    """The ids of the page. Each of several frameworks is gone through in the order of its own index, as far as the page
    reaches: with all of them in one condition PostgreSQL goes through the models of the others as well."""
    wanted = dict.fromkeys(("id", *order.columns))
    models = select(*(getattr(Model, name) for name in wanted)).where(*conditions)
    parts = [models.where(Model.framework == each) for each in dict.fromkeys(frameworks)] or [models]
    firsts = [each.order_by(*order.of(Model)).limit(limit) for each in parts]
    if len(firsts) == 1:
        return firsts[0].subquery()
    together = union_all(*firsts).subquery()
    return select(together.c.id).order_by(*order.of(together.c)).limit(limit).subquery()


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
