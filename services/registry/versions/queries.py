"""What is read of model versions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, case, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.parameters import after
from shared.errors import NotFound
from shared.http import PageQuery
from shared.schema import Model, ModelAlias, ModelCurve, ModelVersion


async def find(
    session: AsyncSession, group: str, model: str, number: int, *, lock: bool = False
) -> tuple[Model, ModelVersion]:
    """Raises NotFound. `lock` holds the version against deployments that would come to stand on it."""
    statement = (
        select(Model, ModelVersion)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.group_id == group, Model.name == model, ModelVersion.number == number)
    )
    found = (await session.execute(statement.with_for_update() if lock else statement)).one_or_none()
    if found is None:
        raise NotFound.named("model version", f"{group}/{model}/{number}")
    return found[0], found[1]


async def page(session: AsyncSession, model_id: int, paging: PageQuery) -> tuple[Sequence[ModelVersion], int | None]:
    """`limit + 1` rows, the newest first, and the total if it was asked for."""
    wanted = [ModelVersion.model_id == model_id]
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(ModelVersion).where(*wanted))).scalar_one()
    if key := after(paging, int):
        wanted.append(ModelVersion.number < key[0])
    statement = select(ModelVersion).where(*wanted).order_by(ModelVersion.number.desc()).limit(paging.limit + 1)
    return (await session.execute(statement)).scalars().all(), total


async def aliases(session: AsyncSession, model_id: int, numbers: Sequence[int]) -> dict[int, list[str]]:
    """Version → its aliases."""
    rows = await session.execute(
        select(ModelAlias.number, ModelAlias.alias)
        .where(ModelAlias.model_id == model_id, ModelAlias.number.in_(numbers))
        .order_by(ModelAlias.alias)
    )
    named: dict[int, list[str]] = {}
    for row in rows:
        named.setdefault(row.number, []).append(row.alias)
    return named


async def curves(
    session: AsyncSession, version: ModelVersion, *, longest: int
) -> tuple[dict[str, Any], dict[str, int]]:
    """The curves of at most `longest` points, and how many points the other ones have."""
    length = func.jsonb_array_length(ModelCurve.points, type_=Integer)
    rows = await session.execute(
        select(ModelCurve.name, length, case((length <= longest, ModelCurve.points)))
        .where(ModelCurve.model_id == version.model_id, ModelCurve.number == version.number)
        .order_by(ModelCurve.name)
    )
    shown: dict[str, Any] = {}
    large: dict[str, int] = {}
    for name, points, values in rows:
        if points > longest:
            large[name] = points
        else:
            shown[name] = values
    return shown, large


async def curve(session: AsyncSession, group: str, model: str, number: int, name: str) -> Any:
    """Its points. Raises NotFound."""
    statement = (
        select(ModelCurve.points)
        .join(Model, Model.id == ModelCurve.model_id)
        .where(Model.group_id == group, Model.name == model, ModelCurve.number == number, ModelCurve.name == name)
    )
    points = (await session.execute(statement)).scalar_one_or_none()
    if points is None:
        raise NotFound.named("curve", f"{name} of {group}/{model}/{number}")
    return points


async def of_run(session: AsyncSession, model_id: int, run: str) -> ModelVersion | None:
    statement = select(ModelVersion).where(ModelVersion.model_id == model_id, ModelVersion.run == run)
    return (await session.execute(statement)).scalar_one_or_none()


async def is_same(
    session: AsyncSession, version: ModelVersion, *, columns: dict[str, Any], curves: dict[str, Any]
) -> bool:
    """Whether the version says just that, as PostgreSQL compares JSON: 1 is 1.0, whatever the text was."""
    kept = (
        select(func.coalesce(func.jsonb_object_agg(ModelCurve.name, ModelCurve.points), literal({}, JSONB)))
        .where(ModelCurve.model_id == version.model_id, ModelCurve.number == version.number)
        .scalar_subquery()
    )
    kinds = ModelVersion.__table__.c
    same = [kinds[name].is_not_distinct_from(literal(value, kinds[name].type)) for name, value in columns.items()]
    statement = select(literal(1)).where(
        ModelVersion.model_id == version.model_id,
        ModelVersion.number == version.number,
        kept == literal(curves, JSONB),
        *same,
    )
    return (await session.execute(statement)).scalar_one_or_none() is not None
