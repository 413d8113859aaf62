"""`/models/{group}/{model}/versions/{n}`, `/models/{group}/{model}/runs/{run}`, and the bytes of a version."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.registry import usage
from services.registry.artifacts import download
from services.registry.artifacts import queries as blobs
from services.registry.artifacts.domain import Elsewhere, OnServer, Uploaded, parse_address
from services.registry.artifacts.resolver import Sources, resolve
from services.registry.errors import RunMismatch, UnsupportedScheme
from services.registry.models import queries as models
from services.registry.models.domain import metrics_summary
from services.registry.parameters import DRY_RUN, GroupId, ModelName, VersionNumber
from services.registry.versions import commands, importing, queries
from services.registry.versions.curves import FEWEST, downsample
from services.registry.versions.schemas import (
    LARGE,
    MOST_POINTS,
    CurveView,
    MlflowImport,
    Serving,
    VersionCreate,
    VersionSummary,
    VersionView,
)
from shared.errors import InUse, NotFound, ValidationFailed
from shared.http import TAGGED, Caller, CurrentCaller, CurrentUnit, Page, Paging, TransactionRoute, Unit, described
from shared.http.problems import raises
from shared.schema import Model, ModelVersion

router = APIRouter(route_class=TransactionRoute, prefix="/models/{group}/{model}", tags=["model versions"])

Run = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,199}$",
        description="the pipeline's id of the run",
        examples=["train-2031-07-01"],
    ),
]
CurveName = Annotated[
    str, Path(pattern=r"^[^\x00-\x1f\x7f/]+$", max_length=100, description="the curve's name", examples=["loss"])
]
Points = Annotated[
    int | None,
    Query(
        ge=FEWEST,
        le=LARGE,
        description="for plotting: at most so many points of a curve. Of each stretch the lowest and the highest are"
        " kept (min–max buckets), and the first and the last of all",
        examples=[1000],
    ),
]
PartKey = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="the part's key", examples=["encoder"]),
]

_HEADERS = described("ETag", "Location")


@router.get("/versions", summary="List a model's versions")
async def list_model_versions(
    *, group: GroupId, model: ModelName, caller: CurrentCaller, unit: CurrentUnit, paging: Paging
) -> Page[VersionSummary]:
    """The newest first."""
    _require(caller, group, model)
    found = await models.find(unit.session, group, model)
    rows, total = await queries.page(unit.session, found.id, paging)
    shown, following = paging.page(rows, key=lambda version: (version.number,))
    items = [VersionSummary(**fields) for fields in await _summaries(unit, caller, found, shown)]
    return Page(items=items, next=following, total=total)


@router.post(
    "/versions",
    status_code=201,
    summary="Register a version",
    responses={201: {"headers": _HEADERS}, **raises(UnsupportedScheme)},
    dependencies=DRY_RUN,
)
async def create_model_version(
    *,
    group: GroupId,
    model: ModelName,
    body: VersionCreate,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
) -> VersionView:
    """The model is made if it is not there. Versions are numbered from 1; a number is never used again."""
    return await _register(
        group=group, model=model, body=body, request=request, caller=caller, unit=unit, response=response, run=None
    )


@router.put(
    "/runs/{run}",
    summary="Register the version of a run",
    responses={
        200: {"description": "The run has registered it before", "headers": _HEADERS},
        201: {"model": VersionView, "description": "The version is new", "headers": _HEADERS},
        **raises(RunMismatch, UnsupportedScheme),
    },
    dependencies=DRY_RUN,
)
async def register_run(
    *,
    group: GroupId,
    model: ModelName,
    run: Run,
    body: VersionCreate,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
) -> VersionView:
    """For pipelines: the same call again, or from two pods at once, is one version. Another content for the same run is
    refused (`run_mismatch`)."""
    return await _register(
        group=group, model=model, body=body, request=request, caller=caller, unit=unit, response=response, run=run
    )


@router.post(
    "/mlflow",
    status_code=201,
    summary="Register a version out of MLflow's files",
    responses={
        200: {"model": VersionView, "description": "The run was imported before", "headers": _HEADERS},
        201: {"headers": _HEADERS},
        **raises(RunMismatch),
    },
    dependencies=DRY_RUN,
)
async def import_mlflow(
    *,
    group: GroupId,
    model: ModelName,
    body: MlflowImport,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
) -> VersionView:
    """Upload the folder that MLflow has written as an archive, then name it here. The flavour becomes the framework,
    the last value of each metric its metric and all of them a curve, parameters stay text. With a run id it is
    idempotent, like `PUT …/runs/{run}`."""
    caller.require(group, kind="group", name=group)
    imported = await importing.read(unit.session, request.app.state.blobs, body, caller=caller)
    return await _register(
        group=group,
        model=model,
        body=imported.body,
        request=request,
        caller=caller,
        unit=unit,
        response=response,
        run=imported.run,
    )


@router.get("/versions/{number}", summary="Get a version", responses=TAGGED)
async def get_model_version(
    *,
    group: GroupId,
    model: ModelName,
    number: VersionNumber,
    caller: CurrentCaller,
    unit: CurrentUnit,
    response: Response,
    points: Points = None,
) -> VersionView:
    """With its metrics, parameters and curves, and the live deployments that stand on it. With `points`, all curves are
    in `curves`, the large ones too, each of at most so many points."""
    _require(caller, group, model)
    found, version = await queries.find(unit.session, group, model, number)
    return await _answer(unit, caller, found, version, response, points=points)


@router.delete(
    "/versions/{number}", status_code=204, summary="Delete a version", responses=raises(InUse), dependencies=DRY_RUN
)
async def delete_model_version(
    *,
    group: GroupId,
    model: ModelName,
    number: VersionNumber,
    caller: CurrentCaller,
    unit: CurrentUnit,
) -> None:
    """Refused while live deployments stand on it (`in_use` names them). Its aliases go with it."""
    _, version = await queries.find(unit.session, group, model, number)
    # Called as `find` calls one that is not there: they look the same to whoever may not see it.
    name = f"{group}/{model}/{number}"
    caller.require(group, kind="model version", name=name, own=version.created_by == caller.user)
    await commands.remove(unit.session, group=group, name=model, number=number, caller=caller)


@router.get("/versions/{number}/curves/{name}", summary="Get a training curve")
async def get_curve(
    *,
    group: GroupId,
    model: ModelName,
    number: VersionNumber,
    name: CurveName,
    caller: CurrentCaller,
    unit: CurrentUnit,
    points: Points = None,
) -> CurveView:
    """All its points, or the `points` that show its shape."""
    _require(caller, group, model)
    kept = await queries.curve(unit.session, group, model, number, name)
    return CurveView.model_construct(
        name=name, total=len(kept), points=kept if points is None else downsample(kept, points)
    )


@router.get(
    "/versions/{number}/artifact",
    summary="Download a version's artifact",
    response_class=StreamingResponse,
    responses=download.OPENAPI,
)
async def download_version(
    *,
    group: GroupId,
    model: ModelName,
    number: VersionNumber,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
) -> StreamingResponse:
    """Of a version whose artifact is one address."""
    return await _download(group=group, model=model, number=number, key=None, request=request, caller=caller, unit=unit)


@router.get(
    "/versions/{number}/artifact/{key}",
    summary="Download a part of a version's artifact",
    response_class=StreamingResponse,
    responses=download.OPENAPI,
)
async def download_version_part(
    *,
    group: GroupId,
    model: ModelName,
    number: VersionNumber,
    key: PartKey,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
) -> StreamingResponse:
    """Of a version whose artifact is an object of addresses."""
    return await _download(group=group, model=model, number=number, key=key, request=request, caller=caller, unit=unit)


def _require(caller: Caller, group: str, model: str) -> None:
    caller.require(group, kind="model", name=f"{group}/{model}")


async def _register(
    *,
    group: str,
    model: str,
    body: VersionCreate,
    request: Request,
    caller: Caller,
    unit: Unit,
    response: Response,
    run: str | None,
) -> VersionView:
    caller.require(group, kind="group", name=group)
    resolved = await resolve(unit.session, body.artifact, caller=caller, sources=_sources(request))
    found, version, new = await commands.register(
        unit.session, group=group, name=model, body=body, resolved=resolved, user=caller.user, run=run
    )
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/models/{group}/{model}/versions/{version.number}"
    return await _answer(unit, caller, found, version, response)


async def _download(
    *, group: str, model: str, number: int, key: str | None, request: Request, caller: Caller, unit: Unit
) -> StreamingResponse:
    _require(caller, group, model)
    _, version = await queries.find(unit.session, group, model, number)
    address = parse_address(_pick(version.artifact, key))
    if isinstance(address, Uploaded):
        blob = await blobs.find(unit.session, address.digest, caller=None)
        if blob is not None:
            pulls: download.Pulls = request.app.state.pulls
            return await pulls.answer(blob, request)
    if isinstance(address, OnServer):
        path = await _sources(request).folders.locate(address.path)
        if path is not None and path.is_dir():
            raise ValidationFailed.of(
                "path/number", "the artifact is a folder on the server, which cannot be downloaded"
            )
        if path is not None:
            return await download.file(path, request)
    if isinstance(address, Elsewhere):
        raise NotFound(f"The registry does not have these bytes, they lie at {address.uri}; fetch them from there.")
    raise NotFound.named("artifact", f"of {group}/{model}/{number}")


def _pick(artifact: Any, key: str | None) -> str:
    if isinstance(artifact, str):
        if key is not None:
            raise NotFound(f"The artifact has no part {key}: it is one address.")
        return artifact
    if key is None:
        names = ", ".join(sorted(artifact))
        raise ValidationFailed.of(
            "path/key", f"the artifact has several parts, name one: {names}", keys=sorted(artifact)
        )
    if key not in artifact:
        raise NotFound(f"The artifact has no part {key}; it has {', '.join(sorted(artifact))}.")
    return str(artifact[key])


async def _answer(
    unit: Unit, caller: Caller, model: Model, version: ModelVersion, response: Response, *, points: int | None = None
) -> VersionView:
    # A version is never changed: its first state is its only one.
    response.headers["ETag"] = '"1"'
    fields = (await _summaries(unit, caller, model, [version]))[0]
    curves, large = await queries.curves(unit.session, version, longest=LARGE if points is None else MOST_POINTS)
    if points is not None:
        curves = {name: downsample(kept, points) for name, kept in curves.items()}
    return VersionView(
        **fields,
        group=model.group_id,
        model=model.name,
        metrics=version.metrics,
        parameters=version.parameters,
        curves=curves,
        large_curves=large,
        example=await blobs.example(unit.session, version.digest),
    )


async def _summaries(
    unit: Unit, caller: Caller, model: Model, versions: Sequence[ModelVersion]
) -> list[dict[str, Any]]:
    """The fields of VersionSummary for each."""
    references = {version.number: f"{model.group_id}/{model.name}/{version.number}" for version in versions}
    named = await queries.aliases(unit.session, model.id, list(references))
    serving: dict[str, list[Serving]] = {}
    for use in await usage.of_models(unit.session, references.values()):
        if caller.sees(use.group):
            serving.setdefault(use.model, []).append(_serving(use))
    return [
        {
            "number": version.number,
            "artifact": version.artifact,
            "framework": version.framework,
            "metrics_summary": metrics_summary(version.metrics),
            "description": version.description,
            "digest": version.digest,
            "size": version.size,
            "run": version.run,
            "aliases": named.get(version.number, []),
            "deployments": serving.get(references[version.number], []),
            "created_by": version.created_by,
            "created_at": version.created_at,
        }
        for version in versions
    ]


def _serving(use: usage.Use) -> Serving:
    return Serving(
        deployment=use.deployment,
        group=use.group,
        version=use.number,
        weight=use.weight,
        stopped=use.stopped,
        phase=use.phase,
    )


def _sources(request: Request) -> Sources:
    sources: Sources = request.app.state.sources
    return sources
