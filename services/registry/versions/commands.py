"""Every write of model versions, with its event."""

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import usage
from services.registry.artifacts.resolver import Resolved
from services.registry.errors import RunMismatch
from services.registry.models import commands as models
from services.registry.versions import queries
from services.registry.versions.schemas import VersionCreate
from shared import outbox
from shared.events.registry import MODEL_VERSION_REGISTERED
from shared.http import Caller
from shared.schema import Model, ModelCurve, ModelVersion


async def register(
    session: AsyncSession,
    *,
    group: str,
    name: str,
    body: VersionCreate,
    resolved: Resolved,
    user: str,
    run: str | None = None,
) -> tuple[Model, ModelVersion, bool]:
    """The version, and whether it is new. The model's row is locked, so numbers have no gaps and a run has one version,
    however many register at once. Raises RunMismatch if the run has registered something else."""
    model = await models.ensure(session, group=group, name=name, user=user)
    columns = {
        "artifact": body.artifact,
        "framework": body.framework,
        "metrics": body.metrics,
        "parameters": body.parameters,
        "description": body.description,
    }
    curves = {curve: [list(point) for point in points] for curve, points in body.curves.items()}
    if run is not None and (known := await queries.of_run(session, model.id, run)):
        if not await queries.is_same(session, known, columns=columns, curves=curves):
            raise RunMismatch(
                f"Run {run} has registered version {known.number} with other content; use another run id for it.",
                version=known.number,
            )
        return model, known, False
    model.latest += 1
    model.framework = model.framework or body.framework
    version = ModelVersion(
        model_id=model.id,
        number=model.latest,
        digest=resolved.digest,
        digests=list(resolved.digests),
        size=resolved.size,
        run=run,
        created_by=user,
        **columns,
    )
    session.add(version)
    await models.touch(session, model)
    if curves:
        rows = [
            {"model_id": model.id, "number": version.number, "name": curve, "points": points}
            for curve, points in curves.items()
        ]
        await session.execute(insert(ModelCurve), rows)
    await session.refresh(version)  # as everybody will see it: JSONB has an order of keys of its own
    subject = f"{group}/{name}"
    await outbox.append(session, MODEL_VERSION_REGISTERED, subject, group=group, model=name, number=version.number)
    return model, version, True


async def remove(session: AsyncSession, *, group: str, name: str, number: int, caller: Caller) -> None:
    """Its aliases go with it; its number is never used again."""
    model, version = await queries.find(session, group, name, number, lock=True)
    reference = f"{group}/{name}/{number}"
    usage.refuse_if_used(await usage.of_models(session, [reference]), f"Version {reference}", caller=caller)
    await session.execute(
        delete(ModelVersion).where(ModelVersion.model_id == version.model_id, ModelVersion.number == number)
    )
    await models.touch(session, model)
    await models.publish(session, model)
