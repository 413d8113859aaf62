"""Series for charts and summaries for cards, of one deployment or of all that the caller may see."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession

from services.metrics import parameters, queries, render, schemas
from services.metrics.domain import LATENCIES, MINUTE, Grid, grid, segments
from services.metrics.parameters import By, Metric, Span, Step
from services.metrics.queries import Scope
from shared.errors import NotFound
from shared.http import Caller, CurrentCaller, CurrentUnit, DnsLabel, TransactionRoute

__all__ = ["create_router"]

_OF_A_DEPLOYMENT = ("version", "client", "code")
_OF_THE_PLATFORM = ("group", "deployment", "code")

DeploymentId = Annotated[DnsLabel, Path(description="the deployment's id", examples=["churn"])]
Groups = Annotated[list[DnsLabel] | None, Query(description="only these groups", max_length=100)]
Deployments = Annotated[list[DnsLabel] | None, Query(description="only these deployments", max_length=200)]


def create_router(*, kept: Mapping[int, float], finest: int) -> APIRouter:
    """`kept`: for how many seconds samples are kept, by resolution. `finest`: the least useful step."""
    router = APIRouter(route_class=TransactionRoute, tags=["metrics"])

    @router.get(
        "/deployments/{id}/metrics",
        summary="Series of a deployment",
        description="Request rate, success rate, errors and latencies over time, as `by` splits them. The `id` of a"
        " deployment that was deleted still answers, as long as no other has taken it. `by` takes version, client and"
        " code; latencies cannot be split by client.",
        response_model=schemas.Metrics,
    )
    async def get_deployment_metrics(
        *,
        id: DeploymentId,  # noqa: A002  # the path's name for it
        caller: CurrentCaller,
        unit: CurrentUnit,
        span: Span,
        step: Step = None,
        by: By = None,
        metric: Metric = None,
    ) -> schemas.Metrics:
        labels = parameters.parse_by(by, _OF_A_DEPLOYMENT)
        wanted = parameters.parse_metrics(metric, by=labels)
        scope = await _of_deployment(unit.session, caller, id)
        points = grid(start=span.start, end=span.end, step=step, now=span.now, kept=kept, finest=finest)
        return await _series(unit.session, scope, points, labels, wanted, now=span.now)

    @router.get(
        "/deployments/{id}/metrics/summary",
        summary="Totals of a deployment over a range",
        description="In all, by status code, by version and by client.",
        response_model=schemas.Summary,
    )
    async def get_deployment_metrics_summary(
        *,
        id: DeploymentId,  # noqa: A002 - the API's word
        caller: CurrentCaller,
        unit: CurrentUnit,
        span: Span,
    ) -> schemas.Summary:
        scope = await _of_deployment(unit.session, caller, id)
        points = grid(start=span.start, end=span.end, step=None, now=span.now, kept=kept, finest=finest)
        parts = segments(points, await queries.rolled_up(unit.session))
        by = ("version", "client", "code")
        counts = await queries.counts(unit.session, scope=scope, segments=parts, step=None, by=by)
        latencies = await queries.histograms(unit.session, scope=scope, segments=parts, step=None, by=("version",))
        return render.summary(points, counts, latencies, now=span.now)

    @router.get(
        "/metrics",
        summary="Series of all deployments that you may see",
        description="As of one deployment; `by` takes group, deployment and code. The step is a minute or more.",
        response_model=schemas.Metrics,
    )
    async def get_metrics(
        *,
        caller: CurrentCaller,
        unit: CurrentUnit,
        span: Span,
        step: Step = None,
        by: By = None,
        metric: Metric = None,
        group: Groups = None,
        deployment: Deployments = None,
    ) -> schemas.Metrics:
        labels = parameters.parse_by(by, _OF_THE_PLATFORM)
        wanted = parameters.parse_metrics(metric, by=labels)
        scope = Scope(visible=caller.visible_groups, groups=group, deployments=deployment)
        points = grid(start=span.start, end=span.end, step=step, now=span.now, kept=kept, finest=MINUTE)
        if "deployment" in labels:
            labels.append("uid")
        return await _series(unit.session, scope, points, labels, wanted, now=span.now)

    @router.get(
        "/metrics/summary",
        summary="Totals over a range of all deployments that you may see",
        description="In all, by status code, and of the busiest deployments.",
        response_model=schemas.PlatformSummary,
    )
    async def get_metrics_summary(
        *,
        caller: CurrentCaller,
        unit: CurrentUnit,
        span: Span,
        group: Groups = None,
        deployment: Deployments = None,
        limit: Annotated[int, Query(ge=0, le=200, description="most deployments listed")] = 50,
    ) -> schemas.PlatformSummary:
        scope = Scope(visible=caller.visible_groups, groups=group, deployments=deployment)
        points = grid(start=span.start, end=span.end, step=None, now=span.now, kept=kept, finest=MINUTE)
        parts = segments(points, await queries.rolled_up(unit.session))
        by = ("deployment", "uid", "group")
        counts = await queries.counts(unit.session, scope=scope, segments=parts, step=None, by=(*by, "code"))
        latencies = await queries.histograms(unit.session, scope=scope, segments=parts, step=None, by=by)
        return render.platform_summary(points, counts, latencies, now=span.now, limit=limit)

    return router


async def _of_deployment(session: AsyncSession, caller: Caller, id_: str) -> Scope:
    """Raises NotFound."""
    found = await queries.find_deployment(session, id_)
    if found is None:
        raise NotFound.named("deployment", id_)
    caller.require(found.group_id, kind="deployment", name=id_)
    return Scope(uid=found.uid)


async def _series(
    session: AsyncSession, scope: Scope, points: Grid, by: list[str], wanted: list[str], *, now: float
) -> schemas.Metrics:
    parts = segments(points, await queries.rolled_up(session))
    counts = await queries.counts(session, scope=scope, segments=parts, step=points.step, by=by)
    latencies, of_all = [], []
    if "client" in by:
        of_all = await queries.histograms(session, scope=scope, segments=parts, step=None, by=())
    elif any(name in LATENCIES for name in wanted):
        latencies = of_all = await queries.histograms(session, scope=scope, segments=parts, step=points.step, by=by)
    # Thousands of quantiles would hold up the event loop.
    return await asyncio.to_thread(render.series, points, counts, latencies, of_all, by=by, wanted=wanted, now=now)
