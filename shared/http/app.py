"""Builds a service's HTTP application."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import BaseRoute, Route, compile_path

from shared.errors import ValidationFailed
from shared.http import problems
from shared.http.auth import needs_caller
from shared.http.context import RequestContext
from shared.http.openapi import describe
from shared.http.transaction import TransactionRoute
from shared.permissions import Rules
from shared.service import Core

PREFIX = "/api/v1"

Lifespan = Callable[[Core], AbstractAsyncContextManager[None]]
"""What the service runs beside its API while it is up."""

Ready = Callable[[], Awaitable[str | None]]
"""Why the service is not ready, or None."""

Exposition = Callable[[], Awaitable[str]]
"""More for `/metrics`, in Prometheus' text format, out of the database."""


_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"],
    "allow_headers": ["*"],  # of our API all are harmless; cookies are not let through (`allow_credentials`)
    "expose_headers": [
        "ETag",
        "Location",
        "Retry-After",
        "X-Request-Id",
        "X-Dry-Run",
        "Idempotent-Replayed",
        "Upload-Offset",
    ],
}


class _Application(FastAPI):
    """Says of itself what we all have in common, and describes the problem documents that its routes refer to."""

    def __init__(self, *, rules: Rules, kinds: Sequence[type[problems.Problem]], **options: Any) -> None:
        super().__init__(**options)
        self._rules = rules
        self._kinds = kinds

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()  # which keeps it
        document.setdefault("components", {}).setdefault("schemas", {}).update(problems.schemas(self._kinds))
        describe(document, self._rules)
        return document


def create_app(
    *,
    service: str,
    title: str,
    core: Core,
    rules: Rules,
    routers: Sequence[APIRouter],
    lifespan: Lifespan,
    ready: Ready,
    lacking: Ready | None = None,
    exposition: Exposition | None = None,
    kinds: Sequence[type[problems.Problem]] = (),
    tags: Mapping[str, str] | None = None,
) -> FastAPI:
    """An application with our conventions. `core` is opened when it starts and closed when it stops.

    `rules` say who may use which of its routes. Raises ValueError unless each decides about one, and all have theirs.
    `ready` says why the service cannot work, and `lacking` what it does without for a while.
    `kinds` are the problem documents of its own that its routes describe; `tags` say what its are.
    """

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with core, lifespan(core):
            yield

    app = _Application(
        rules=rules,
        kinds=(problems.Problem, *kinds),
        title=title,
        version="1",
        lifespan=running,
        openapi_url="/openapi.json",
        openapi_tags=[{"name": name, "description": said} for name, said in (tags or {}).items()],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The operation ids are the names of the functions: generated clients get methods with good names.
        generate_unique_id_function=lambda route: route.name,
        responses=problems.raises(ValidationFailed),  # or FastAPI describes its own
    )
    app.state.core = core
    app.state.rules = rules
    routes = [route for router in routers for route in router.routes]
    app.state.paths = [
        (compile_path(PREFIX + route.path)[0], route.methods) for route in routes if isinstance(route, Route)
    ]
    problems.install(app)
    if core.web_origins:
        app.add_middleware(CORSMiddleware, allow_origins=core.web_origins, **_CORS)
    app.add_middleware(RequestContext, service=service, https=core.public_url.startswith("https://"))
    _check_rules(rules, routes)
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    _add_probes(app, core, ready, lacking, exposition)
    return app


def _check_rules(rules: Rules, routes: Sequence[BaseRoute]) -> None:
    ours = {route.name: route for route in routes if isinstance(route, TransactionRoute)}
    # A plain route would silently lose its transaction.
    assert len(ours) == len(routes)
    if odd := ours.keys() ^ {name for name in rules if "." not in name}:
        raise ValueError(f"either a route without a rule or a rule without a route: {', '.join(sorted(odd))}")
    for name, route in ours.items():
        if needs_caller(route.dependant) is not rules[name].caller:
            raise ValueError(f"{name} and its rule do not agree whether it needs a caller")


def _add_probes(app: FastAPI, core: Core, ready: Ready, lacking: Ready | None, exposition: Exposition | None) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        if reason := await core.not_ready() or await ready():
            return JSONResponse({"status": reason}, status_code=503)
        if missing := await core.degraded() or (await lacking() if lacking else None):
            # Ready all the same: taken out of service for that, we would accept nothing at all.
            return JSONResponse({"status": "degraded", "detail": missing})
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        more = await exposition() if exposition else ""
        return Response(generate_latest() + more.encode(), media_type=CONTENT_TYPE_LATEST)
