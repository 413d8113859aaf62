"""A version's body out of uploaded files of MLflow: gets the bytes, has them read, and fits them to what a version
holds."""

import asyncio
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts import contents, queries
from services.registry.artifacts.domain import Uploaded, parse_address
from services.registry.artifacts.store import BlobStore
from services.registry.versions import mlflow
from services.registry.versions.mlflow import Imported
from services.registry.versions.schemas import MOST_POINTS, MlflowImport, VersionCreate
from shared.errors import FieldProblem, Unavailable, ValidationFailed
from shared.http import Caller

__all__ = ["Import", "read"]


@dataclass(frozen=True)
class Import:
    body: VersionCreate
    run: str | None


async def read(session: AsyncSession, store: BlobStore, body: MlflowImport, *, caller: Caller) -> Import:
    """Raises ValidationFailed."""
    places = {"/artifact": await _place(session, body.artifact, caller=caller, pointer="/artifact")}
    if body.run is not None:
        places["/run"] = await _place(session, body.run, caller=caller, pointer="/run")
    await session.rollback()  # reading takes its time: no connection waits for it
    found = [await _imported(store, place, pointer=pointer) for pointer, place in places.items()]
    model, run = found[0], found[-1]
    if body.run is not None and model.run is not None and run.run not in (None, model.run):
        raise ValidationFailed.of("/run", f"is of run {run.run}, but the model of run {model.run}")
    try:
        made = VersionCreate.model_validate(
            {
                "artifact": body.artifact,
                "framework": model.framework or run.framework,
                "metrics": run.metrics or model.metrics or None,
                "parameters": {
                    **run.parameters,
                    **model.parameters,
                    "mlflow": {**run.parameters["mlflow"], **model.parameters["mlflow"]},
                },
                "curves": run.curves or model.curves,
                "description": run.description or model.description,
            }
        )
    except ValidationError as error:
        problems = [FieldProblem("/artifact", f"{each['loc'][0]}: {each['msg']}") for each in error.errors()[:10]]
        raise ValidationFailed(problems) from error
    return Import(made, model.run or run.run)


async def _place(session: AsyncSession, uri: str, *, caller: Caller, pointer: str) -> str:
    try:
        address = parse_address(uri)
    except ValueError as error:
        raise ValidationFailed.of(pointer, str(error)) from error
    if not isinstance(address, Uploaded):
        raise ValidationFailed.of(pointer, "must be uploaded first: the registry reads what it keeps itself")
    blob = await queries.find(session, address.digest, caller=caller)
    if blob is None:
        raise ValidationFailed.of(pointer, f"there is no upload {address.digest} that you may name; upload it")
    if blob.place is None:
        raise Unavailable(f"The bytes of {blob.digest} are damaged; upload them again.")
    return blob.place


async def _imported(store: BlobStore, place: str, *, pointer: str) -> Imported:
    try:
        async with store.local(place) as path:
            return await asyncio.to_thread(
                lambda: mlflow.read(
                    contents.pick(path, mlflow.is_wanted, most=mlflow.MOST_BYTES), most_points=MOST_POINTS
                )
            )
    except ValueError as error:
        raise ValidationFailed.of(pointer, str(error)) from error
    except OSError as error:
        raise Unavailable("The registry's storage cannot be read; try again.") from error
