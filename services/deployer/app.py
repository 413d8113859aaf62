"""The deployer's composition root: deployments, their history and logs, and the reconciler that runs them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from services.deployer import artifacts, consumer
from services.deployer.deployments import api as deployments
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Platform, local
from services.deployer.reconciler import Reconciler
from services.deployer.records import Records
from services.deployer.replicas import api as replicas
from services.deployer.revisions import api as revisions
from services.deployer.runtimes import api as runtimes
from services.deployer.settings import DeployerSettings
from services.deployer.versions import api as versions
from shared.http import create_app
from shared.permissions import TABLE
from shared.reconcile import Controller
from shared.secrets import Vault
from shared.service import Core

__all__ = ["create", "create_with", "platform_of"]

AHEAD = 10.0
"""Seconds by which what is at rest goes before what is under way: a crowd of births must neither make each wait until
those before it are ready, nor hold up a replica that dies elsewhere."""


def create() -> tuple[DeployerSettings, FastAPI]:
    settings = DeployerSettings()
    core = Core(settings, service="deployer")
    return settings, create_with(settings, core=core, platform=platform_of(settings, core.vault))


def platform_of(settings: DeployerSettings, vault: Vault) -> AbstractAsyncContextManager[Platform]:
    """The platform that the settings name."""
    url = artifacts.presigned(vault, registry_url=settings.registry_url, seconds=settings.pull_seconds)
    if settings.platform == "local":
        options = local.Options(address=settings.local_address)
        return local.LocalPlatform(settings.local_folder, url, vault=vault, options=options)

    # Only here: its libraries take memory and a third of a second, which one machine can do without.
    from services.deployer.platforms import kubernetes

    assert settings.kubernetes_model_server_image is not None
    return kubernetes.KubernetesPlatform(
        kubernetes.Connection(kubeconfig=settings.kubernetes_config, context=settings.kubernetes_context),
        url,
        url_seconds=settings.pull_seconds,
        options=kubernetes.Options(
            model_server_image=settings.kubernetes_model_server_image,
            namespace=settings.kubernetes_namespace,
            pull_secrets=settings.kubernetes_pull_secrets,
            installation=settings.kubernetes_installation,
            user=settings.kubernetes_user,
            drain_seconds=settings.kubernetes_drain_seconds,
            gpu_resource=settings.kubernetes_gpu_resource,
            gpu_model_label=settings.kubernetes_gpu_model_label,
            gpu_fraction_resource=settings.kubernetes_gpu_fraction_resource,
            gpu_fraction_units=settings.kubernetes_gpu_fraction_units,
            external_ips=settings.kubernetes_external_ips,
        ),
    )


def create_with(settings: DeployerSettings, *, core: Core, platform: AbstractAsyncContextManager[Platform]) -> FastAPI:
    """The application on a platform that is entered when it starts and left when it stops."""

    @asynccontextmanager
    async def running(core: Core) -> AsyncIterator[None]:
        async with platform as entered:
            app.state.platform = entered
            records = Records(core.direct)
            reconciler = Reconciler(records=records, platform=entered, vault=EnvVault(core.vault))
            controller = Controller(
                name="deployments",
                reconcile=reconciler.reconcile,
                resync=reconciler.resync,
                leases=core.leases,
                workers=settings.reconcile_workers,
                every=settings.resync_seconds,
                ahead=AHEAD,
            )

            app.state.controller = controller

            async def reconcile() -> None:
                await entered.known()  # before, everything would look as if nothing was there
                await controller.run()

            core.background("reconcile", reconcile)
            core.background("watch", lambda: reconciler.watch(controller.wake))
            core.background("events", consumer.consume(core.bus, controller.wake, reconciler.seen))
            core.background("hints", consumer.listen(core.hints, controller.wake))
            try:
                yield
            finally:
                await core.end_background()  # nobody may ask a platform that has let go

    async def ready() -> str | None:
        return None

    async def lacking() -> str | None:
        trouble = app.state.platform.trouble
        return f"platform: {trouble}" if trouble else None

    app = create_app(
        service="deployer",
        title="Moorage deployer",
        core=core,
        rules=TABLE["deployer"],
        routers=[deployments.router, versions.router, revisions.router, replicas.router, runtimes.router],
        tags={
            "deployments": "A stable address with live versions of models behind it.",
            "versions": "The live versions behind one address.",
            "revisions": "The history of a deployment, kept for good.",
            "replicas": "What runs, what it printed, and what the platform did.",
            "runtimes": "Ways to serve a model.",
        },
        lifespan=running,
        ready=ready,
        lacking=lacking,
    )
    app.state.settings = settings
    return app
