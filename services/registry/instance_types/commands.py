"""Every write of instance types, with its event.

What deployments stand on is not taken from them: their reservations and their replicas are of the size they were
promised. Such a type can grow; it can shrink or go once no live deployment uses it.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import usage
from services.registry.instance_types import queries
from services.registry.instance_types.domain import Gpu, Size
from services.registry.instance_types.schemas import InstanceTypeCreate, InstanceTypePatch
from shared import outbox
from shared.errors import NameTaken, ValidationFailed
from shared.events.registry import INSTANCE_TYPE_CHANGED
from shared.http import Caller, check_match
from shared.schema import InstanceType


async def create(session: AsyncSession, body: InstanceTypeCreate) -> InstanceType:
    await _check_groups(session, body.groups)
    statement = insert(InstanceType).values(
        id=body.id,
        name=body.name or body.id,
        cpu=body.cpu,
        memory=body.memory,
        gpu=body.gpu.cards,
        gpu_model=body.gpu.model,
        node_selector=body.node_selector,
        tolerations=[each.model_dump(exclude_none=True) for each in body.tolerations],
        groups=_unique(body.groups),
    )
    made = (await session.execute(statement.on_conflict_do_nothing().returning(InstanceType))).scalar_one_or_none()
    if made is None:
        raise NameTaken(f"There is an instance type {body.id} already; choose another id.", id=body.id)
    await _publish(session, made.id)
    return made


async def change(
    session: AsyncSession, instance_type: str, body: InstanceTypePatch, *, caller: Caller, if_match: str | None
) -> InstanceType:
    found = await queries.find(session, instance_type, caller=caller, lock=True)
    check_match(if_match, found.version)
    columns = _columns(found, body)
    if "groups" in columns:
        await _check_groups(session, columns["groups"])
    changed = {name: value for name, value in columns.items() if getattr(found, name) != value}
    if not changed:
        return found
    before = _size(found)
    for name, value in changed.items():
        setattr(found, name, value)
    if not _size(found).holds(before):
        uses = await usage.of_instance_type(session, instance_type)
        usage.refuse_if_used(uses, f"Instance type {instance_type} cannot shrink: it", caller=caller)
    found.version += 1
    found.updated_at = (await session.execute(select(func.now()))).scalar_one()
    await session.flush()
    await _publish(session, instance_type)
    return found


async def delete(session: AsyncSession, instance_type: str, *, caller: Caller, if_match: str | None) -> None:
    found = await queries.find(session, instance_type, caller=caller, lock=True)
    check_match(if_match, found.version)
    uses = await usage.of_instance_type(session, instance_type)
    usage.refuse_if_used(uses, f"Instance type {instance_type}", caller=caller)
    await session.delete(found)
    await session.flush()
    await _publish(session, instance_type)


def _columns(found: InstanceType, body: InstanceTypePatch) -> dict[str, Any]:
    """What the merge patch says the columns become."""
    columns: dict[str, Any] = {}
    for name in body.model_fields_set:
        value = getattr(body, name)
        match name:
            case "name":
                columns["name"] = value or found.id
            case "gpu":
                gpu: Gpu | None = value
                columns["gpu"] = gpu.cards if gpu else 0
                columns["gpu_model"] = gpu.model if gpu else None
            case "node_selector":
                merged = {} if value is None else {**found.node_selector, **value}
                columns[name] = {key: label for key, label in merged.items() if label is not None}
            case "tolerations":
                columns[name] = [each.model_dump(exclude_none=True) for each in value or ()]
            case "groups":
                columns[name] = _unique(value)
            case _:
                columns[name] = value
    return columns


def _size(of: InstanceType) -> Size:
    return Size(cpu=of.cpu, memory=of.memory, gpu=Gpu(of.gpu, of.gpu_model))


def _unique(groups: list[str] | None) -> list[str] | None:
    return None if groups is None else sorted(set(groups))


async def _check_groups(session: AsyncSession, groups: list[str] | None) -> None:
    if groups and (unknown := await queries.unknown_groups(session, groups)):
        raise ValidationFailed.of("/groups", f"there is no group {', '.join(unknown)}")


async def _publish(session: AsyncSession, instance_type: str) -> None:
    await outbox.append(session, INSTANCE_TYPE_CHANGED, instance_type, instance_type=instance_type)
