"""The composition root: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from services.registry import artifacts, consumer, groups, instance_types, members, models, versions
from services.registry.artifacts import uploads
from services.registry.artifacts.collector import Collector
from services.registry.artifacts.download import Pulls
from services.registry.artifacts.fetching import Fetcher
from services.registry.artifacts.guarded import Networks
from services.registry.artifacts.objects import ObjectStorage
from services.registry.artifacts.partials import Partials
from services.registry.artifacts.resolver import FileFolders, Sources
from services.registry.artifacts.storage import FolderStorage, Storage
from services.registry.artifacts.store import BlobStore
from services.registry.settings import RegistrySettings
from shared.http import create_app
from shared.permissions import TABLE
from shared.service import Core


def create(settings: RegistrySettings | None = None) -> tuple[RegistrySettings, FastAPI]:
    settings = settings or RegistrySettings()
    core = Core(settings, service="registry")
    storage: Storage = FolderStorage(settings.blob_folder)
    if settings.blob_store:
        storage = ObjectStorage(settings.blob_store)
    store = BlobStore(
        settings.blob_folder,
        storage=storage,
        upload_limit=settings.upload_limit,
        unpacked_limit=settings.unpacked_limit,
        free_space_floor=settings.free_space_floor,
    )
    networks = Networks(settings.fetch_networks)
    partials = Partials(settings.blob_folder, store)
    collector = Collector(
        sessions=core.sessions,
        storage=storage,
        partials=partials,
        unused_for=timedelta(hours=settings.unused_blob_hours),
        every=timedelta(seconds=settings.collect_seconds),
    )

    @asynccontextmanager
    async def lifespan(core: Core) -> AsyncIterator[None]:
        await store.open()
        await partials.open()
        core.background("users", lambda: consumer.consume(core))
        core.background("personal-groups", lambda: consumer.resync(core))
        core.background("collector", collector.run)
        yield

    app = create_app(
        service="registry",
        title="Moorage registry",
        core=core,
        rules=TABLE["registry"],
        routers=[
            groups.router,
            members.router,
            instance_types.router,
            models.router,
            versions.router,
            artifacts.router,
            uploads.router,
        ],
        tags={
            "groups": "Who belongs together: a quota, a switch that allows deployment, and what is theirs.",
            "members": "What a user may do in a group.",
            "instance types": "The sizes on offer.",
            "models": "Models with their aliases; search.",
            "model versions": "The versions of a model: artifact, metrics, curves, and who serves them.",
            "artifacts": "The bytes of models: upload, fetch, download.",
        },
        lifespan=lifespan,
        ready=store.not_ready,
    )
    app.state.blobs = store
    app.state.partials = partials
    app.state.collector = collector
    app.state.pulls = Pulls.of(storage, core.sessions)
    app.state.sources = Sources(FileFolders(settings.file_folders), settings.artifact_prefixes, networks)
    app.state.fetcher = Fetcher(settings.fetch_prefixes, networks)
    return settings, app
