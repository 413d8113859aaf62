"""The gateway's composition root: the only reader of its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from services.gateway.access_tokens.api import router as access_tokens
from services.gateway.access_tokens.commands import LONG_EXPIRED
from services.gateway.audit.api import router as audit
from services.gateway.audit.sealer import Sealer
from services.gateway.clients.api import router as clients
from services.gateway.consumer import TOPICS, Wakes
from services.gateway.endpoint.api import router as endpoint
from services.gateway.envoy.server import XdsServer
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store
from services.gateway.fleet import Fleet
from services.gateway.identity.api import router as identity
from services.gateway.identity.keys import SigningKeys
from services.gateway.identity.passwords import Passwords
from services.gateway.identity.schemas import OAuthProblem
from services.gateway.identity.throttle import Throttle
from services.gateway.oidc.api import callback_of
from services.gateway.oidc.api import router as oidc
from services.gateway.oidc.client import Client
from services.gateway.parts import Parts
from services.gateway.reconciler import Reconciler
from services.gateway.reference.api import router as reference
from services.gateway.reference.documents import Documents
from services.gateway.service_accounts.api import router as service_accounts
from services.gateway.settings import GatewaySettings
from services.gateway.sign_ins.api import router as sign_ins
from services.gateway.sign_ins.commands import CHORES
from services.gateway.users.api import router as users
from shared.http import create_app
from shared.permissions import TABLE
from shared.service import Core


def create() -> tuple[GatewaySettings, FastAPI]:
    settings = GatewaySettings()
    return settings, build(settings)


def build(settings: GatewaySettings) -> FastAPI:
    """The application. Nothing is opened before it starts, so that its description can be had without any of it."""
    core = Core(settings, service="gateway")
    for chore in CHORES:
        core.housekeeping.add(chore)
    core.housekeeping.add(LONG_EXPIRED)
    documents = Documents(settings.openapi_file)

    @asynccontextmanager
    async def running(core: Core) -> AsyncIterator[None]:
        store, name = Store(), settings.gateway_name
        snapshot = SnapshotFile(settings.snapshot_path)
        xds = XdsServer.of(store)
        http = httpx.AsyncClient(timeout=10, headers={"Accept": "application/json"})
        fleet = Fleet(core.sessions, store, gateway=name, gone_after=settings.envoy_gone_seconds)
        parts = app.state.parts = Parts(
            settings=settings,
            keys=SigningKeys(core.sessions, core.vault),
            passwords=Passwords(),
            throttle=Throttle(),
            reconciler=Reconciler(
                direct=core.direct,
                store=store,
                snapshot=snapshot,
                fleet=fleet,
                gateway=name,
            ),
            documents=documents,
            providers={
                each.name: Client(each, http, redirect_uri=f"{settings.public_url}{callback_of(each.name)}")
                for each in settings.oidc_providers
            },
        )
        wakes = Wakes(parts.reconciler)
        stop_hints = [core.hints.listen(wakes.hint), core.hints.listen(fleet.hint)]

        async def serve() -> None:
            await xds.start(f"{settings.xds_host}:{settings.xds_port}")

        async def consume() -> None:
            await core.bus.consume(consumer=name, topics=TOPICS, handler=wakes.handle)

        core.background("signing keys", parts.keys.maintain)
        core.background("audit chain", Sealer(core.sessions, core.vault).run)
        core.background("routes", lambda: parts.reconciler.run(serve))
        core.background("routes rescan", wakes.rescan)
        core.background("routes events", consume)
        try:
            yield
        finally:
            for stop in stop_hints:
                stop()
            await http.aclose()
            await xds.stop()
            await parts.reconciler.close()
            snapshot.close()
            parts.passwords.close()

    async def not_ready() -> str | None:
        parts: Parts = app.state.parts
        if not parts.keys.ready:
            return "signing keys: not loaded"
        return None if parts.reconciler.loaded else "routes: not loaded"

    app = create_app(
        service="gateway",
        title="Moorage gateway",
        core=core,
        rules=TABLE["gateway"],
        routers=[identity, oidc, sign_ins, users, access_tokens, service_accounts, audit, clients, endpoint],
        tags={
            "sign-in": "Tokens for users and service accounts, identity providers, where one is signed in.",
            "users": "People, and one's own page.",
            "access tokens": "Personal access tokens, for scripts.",
            "service accounts": "Users for pipelines.",
            "audit": "Who did what, and who was denied what.",
            "clients": "Who may call a private endpoint.",
            "endpoint": "Where a deployment is reached, and how.",
        },
        lifespan=running,
        ready=not_ready,
        kinds=[OAuthProblem],
    )
    app.include_router(reference)
    # FastAPI's own hook: what we serve as /openapi.json describes all services, as users meet them behind one port.
    app.openapi = lambda: documents.openapi  # type: ignore[method-assign]  # see above
    return app
