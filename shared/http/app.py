"""Builds a service's HTTP application."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.http import problems
from shared.http.context import RequestContext
from shared.http.transaction import TransactionRoute
from shared.service import Core

PREFIX = "/api/v1"

Lifespan = Callable[[Core], AbstractAsyncContextManager[None]]
"""What the service runs beside its API while it is up."""

Ready = Callable[[], Awaitable[str | None]]
"""Why the service is not ready, or None."""

Exposition = Callable[[], Awaitable[str]]
"""More for `/metrics`, in Prometheus' text format, out of the database."""


def create_app(
    *,
    service: str,
    title: str,
    core: Core,
    routers: Sequence[APIRouter],
    lifespan: Lifespan,
    ready: Ready,
    exposition: Exposition | None = None,
) -> FastAPI:
    """An application with our conventions. `core` is opened when it starts and closed when it stops."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with core, lifespan(core):
            yield

    error = {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    app = FastAPI(
        title=title,
        version="1",
        lifespan=running,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The operation ids are the names of the functions: generated clients get methods with good names.
        generate_unique_id_function=lambda route: route.name,
        responses={
            401: {**error, "description": "The caller is not known"},
            403: {**error, "description": "The caller may not do this"},
            404: {**error, "description": "There is no such thing, or the caller may not see it"},
            422: {**error, "description": "A field is wrong"},
            503: {**error, "description": "A part that is needed is away"},
        },
    )
    app.state.core = core
    problems.install(app)
    app.add_middleware(RequestContext, service=service)
    for router in routers:
        # A router of plain routes would silently lose its transactions.
        assert router.route_class is TransactionRoute
        app.include_router(router, prefix=PREFIX)
    _add_probes(app, core, ready, exposition)
    return app


def _add_probes(app: FastAPI, core: Core, ready: Ready, exposition: Exposition | None) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        if reason := await core.not_ready() or await ready():
            return JSONResponse({"status": reason}, status_code=503)
        if lacking := await core.degraded():
            # Ready all the same: taken out of service for that, we would accept nothing at all.
            return JSONResponse({"status": "degraded", "detail": lacking})
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        more = await exposition() if exposition else ""
        return Response(generate_latest() + more.encode(), media_type=CONTENT_TYPE_LATEST)
