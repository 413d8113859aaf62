"""The deployer's composition root: deployments, their history and logs, and the reconciler that runs them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from services.deployer import artifacts, consumer
from services.deployer.deployments import api as deployments
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Platform
from services.deployer.platforms.local import LocalPlatform, Options
from services.deployer.reconciler import Reconciler
from services.deployer.records import Records
from services.deployer.replicas import api as replicas
from services.deployer.revisions import api as revisions
from services.deployer.runtimes import api as runtimes
from services.deployer.settings import DeployerSettings
from services.deployer.versions import api as versions
from shared.http import create_app
from shared.reconcile import Controller
from shared.service import Core

__all__ = ["create", "create_with"]


def create() -> tuple[DeployerSettings, FastAPI]:
    settings = DeployerSettings()
    core = Core(settings, service="deployer")
    url = artifacts.presigned(core.vault, registry_url=settings.registry_url, seconds=settings.pull_seconds)
    options = Options(address=settings.local_address)
    platform = LocalPlatform(settings.local_folder, url, vault=core.vault, options=options)
    return settings, create_with(settings, core=core, platform=platform)


def create_with(settings: DeployerSettings, *, core: Core, platform: AbstractAsyncContextManager[Platform]) -> FastAPI:
    """The application on a platform that is entered when it starts and left when it stops."""

    @asynccontextmanager
    async def running(core: Core) -> AsyncIterator[None]:
        async with platform as entered:
            app.state.platform = entered
            records = Records(core.sessions)
            reconciler = Reconciler(records=records, platform=entered, vault=EnvVault(core.vault))
            controller = Controller(
                name="deployments",
                reconcile=reconciler.reconcile,
                resync=reconciler.resync,
                leases=core.leases,
                workers=settings.reconcile_workers,
                every=settings.resync_seconds,
            )
            core.background("reconcile", controller.run)
            core.background("watch", lambda: reconciler.watch(controller.wake))
            core.background("events", consumer.consume(core.bus, controller.wake))
            core.background("hints", consumer.listen(core.hints, controller.wake))
            try:
                yield
            finally:
                await core.end_background()  # nobody may ask a platform that has let go

    async def ready() -> str | None:
        return None

    app = create_app(
        service="deployer",
        title="Moorage deployer",
        core=core,
        routers=[deployments.router, versions.router, revisions.router, replicas.router, runtimes.router],
        lifespan=running,
        ready=ready,
    )
    app.state.settings = settings
    return app
