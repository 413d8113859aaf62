"""What the registry reads of deployments: which live ones stand on a model version or an instance type.

Stopped deployments count: they can be started again, and need then what they stand on. Whoever removes something locks
its row first; the deployer locks the same row (FOR KEY SHARE) before it writes a deployment that stands on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, and_, cast, func, literal, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import InUse
from shared.http import Caller
from shared.schema import Deployment


@dataclass(frozen=True)
class Use:
    """A live deployment's version, and the share of its traffic in percent."""

    deployment: str
    group: str
    number: int
    model: str
    instance_type: str
    weight: float
    stopped: bool
    phase: str


async def of_models(session: AsyncSession, references: Iterable[str]) -> list[Use]:
    """Uses of `<group>/<model>/<number>`."""
    return await _uses(session, "model", list(references))


async def of_instance_type(session: AsyncSession, instance_type: str) -> list[Use]:
    return await _uses(session, "instance_type", [instance_type])


async def _uses(session: AsyncSession, field: str, values: list[str]) -> list[Use]:
    if not values:
        return []
    # Word for word the expression of the index.
    versions = literal_column("(deployments.spec -> 'versions')", JSONB)
    each = func.jsonb_array_elements(versions).table_valued("value", joins_implicitly=True).render_derived(name="each")
    version = cast(each.c.value, JSONB)
    number = version["number"].astext
    # One at a time by the index: of an array of them PostgreSQL thinks that it finds much, and reads the whole table.
    wanted = func.unnest(literal(values, ARRAY(Text))).table_valued("value").render_derived(name="wanted")
    weight = Deployment.spec["traffic"]["weights"][number].astext
    statement = (
        select(
            Deployment.id,
            Deployment.group_id,
            number,
            version["model"].astext,
            version["instance_type"].astext,
            func.coalesce(weight, "0"),
            Deployment.stopped,
            Deployment.phase,
        )
        .select_from(wanted)
        .join(
            Deployment,
            Deployment.deleted_at.is_(None)
            & versions.op("@>")(func.jsonb_build_array(func.jsonb_build_object(field, wanted.c.value))),
        )
        .where(version[field].astext == wanted.c.value)
        .order_by(Deployment.id, number)
    )
    rows = (await session.execute(statement)).all()
    return [Use(row[0], row[1], int(row[2]), row[3], row[4], float(row[5]), row[6], row[7]) for row in rows]


def refuse_if_used(uses: list[Use], what: str, *, caller: Caller) -> None:
    """Raises InUse, naming those deployments that the caller may see."""
    if not uses:
        return
    seen = sorted({use.deployment for use in uses if caller.sees(use.group)})
    hidden = len({use.deployment for use in uses}) - len(seen)
    named = ", ".join(seen[:10]) + (f" and {len(seen) - 10} more" if len(seen) > 10 else "")
    others = f"{hidden} that you may not see" if hidden else ""
    who = " and ".join(filter(None, (named, others)))
    raise InUse(
        f"{what} is in use by {who}; change or delete these deployments first.", deployments=seen, hidden=hidden
    )


def reserved() -> ColumnElement[bool]:
    """The live deployments that count against a quota."""
    return and_(Deployment.deleted_at.is_(None), Deployment.stopped.is_(False))
