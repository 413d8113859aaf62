"""Every write of models and their aliases, with its event."""

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import usage
from services.registry.groups import queries as groups
from services.registry.models import queries
from services.registry.models.schemas import ModelCreate, ModelPatch
from shared import outbox
from shared.errors import FieldProblem, NameTaken, ValidationFailed
from shared.events.registry import MODEL_CHANGED
from shared.http import Caller, check_match
from shared.schema import Model, ModelAlias

_MOST_ALIASES = 100


async def create(session: AsyncSession, body: ModelCreate, *, user: str) -> Model:
    await groups.hold(session, body.group)
    values: dict[str, Any] = {
        "framework": body.framework or "",
        "description": body.description or "",
        "tags": body.tags or [],
    }
    statement = insert(Model).values(group_id=body.group, name=body.name, created_by=user, **values)
    made = (await session.execute(statement.on_conflict_do_nothing().returning(Model))).scalar_one_or_none()
    if made is None:
        raise NameTaken(f"There is a model {body.group}/{body.name} already; register versions of it.")
    await publish(session, made)
    return made


async def ensure(session: AsyncSession, *, group: str, name: str, user: str) -> Model:
    """The model, locked; made if this is the first that is heard of it."""
    await groups.hold(session, group)
    statement = insert(Model).values(group_id=group, name=name, created_by=user)
    await session.execute(statement.on_conflict_do_nothing())
    return await queries.find(session, group, name, lock=True)


async def change(session: AsyncSession, group: str, name: str, body: ModelPatch, *, if_match: str | None) -> Model:
    model = await queries.find(session, group, name, lock=True)
    check_match(if_match, model.version)
    changed = {column: value for column, value in body.columns().items() if getattr(model, column) != value}
    for column, value in changed.items():
        setattr(model, column, value)
    moved = "aliases" in body.model_fields_set and await _set_aliases(session, model, body.aliases)
    if changed or moved:
        await touch(session, model)
        await publish(session, model)
    return model


async def remove(session: AsyncSession, group: str, name: str, *, caller: Caller, if_match: str | None) -> None:
    model = await queries.find(session, group, name, lock=True)
    check_match(if_match, model.version)
    # Deployments lock the versions that they are made of: these locks come first here too.
    references = [f"{group}/{name}/{number}" for number in await queries.numbers(session, model.id, lock=True)]
    usage.refuse_if_used(await usage.of_models(session, references), f"Model {group}/{name}", caller=caller)
    await session.execute(delete(Model).where(Model.id == model.id))
    await publish(session, model)


async def touch(session: AsyncSession, model: Model) -> None:
    """What the model shows has changed."""
    model.version += 1
    model.updated_at = (await session.execute(select(func.now()))).scalar_one()
    await session.flush()


async def publish(session: AsyncSession, model: Model) -> None:
    subject = f"{model.group_id}/{model.name}"
    await outbox.append(session, MODEL_CHANGED, subject, group=model.group_id, model=model.name, number=model.latest)


async def _set_aliases(session: AsyncSession, model: Model, given: dict[str, int | None] | None) -> bool:
    """Merge `given` into the aliases (None: remove all); whether that changed any."""
    stand = await queries.aliases(session, model.id)
    wanted = {} if given is None else {alias: number for alias, number in {**stand, **given}.items() if number}
    if wanted == stand:
        return False
    known = set(await queries.numbers(session, model.id))
    missing = [
        FieldProblem(f"/aliases/{alias}", f"there is no version {number} of this model")
        for alias, number in wanted.items()
        if number not in known
    ]
    if missing:
        raise ValidationFailed(missing)
    if len(wanted) > _MOST_ALIASES:
        raise ValidationFailed.of("/aliases", f"a model has at most {_MOST_ALIASES} aliases")
    await session.execute(
        delete(ModelAlias).where(ModelAlias.model_id == model.id, ModelAlias.alias.in_(stand.keys() - wanted.keys()))
    )
    moved = [{"model_id": model.id, "alias": a, "number": n} for a, n in wanted.items() if stand.get(a) != n]
    if moved:
        statement = insert(ModelAlias).values(moved)
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=[ModelAlias.model_id, ModelAlias.alias], set_={"number": statement.excluded.number}
            )
        )
    return True
