"""The composition root: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.registry import artifacts, consumer, groups, instance_types, members, models, versions
from services.registry.artifacts.resolver import FileFolders
from services.registry.artifacts.store import BlobStore
from services.registry.settings import RegistrySettings
from shared.http import create_app
from shared.service import Core


def create(settings: RegistrySettings | None = None) -> tuple[RegistrySettings, FastAPI]:
    settings = settings or RegistrySettings()
    core = Core(settings, service="registry")
    store = BlobStore(
        settings.blob_folder,
        upload_limit=settings.upload_limit,
        unpacked_limit=settings.unpacked_limit,
        free_space_floor=settings.free_space_floor,
    )

    @asynccontextmanager
    async def lifespan(core: Core) -> AsyncIterator[None]:
        await store.open()
        core.background("users", lambda: consumer.consume(core))
        core.background("personal-groups", lambda: consumer.resync(core))
        yield

    app = create_app(
        service="registry",
        title="Moorage registry",
        core=core,
        routers=[
            groups.router,
            members.router,
            instance_types.router,
            models.router,
            versions.router,
            artifacts.router,
        ],
        lifespan=lifespan,
        ready=store.not_ready,
    )
    app.state.blobs = store
    app.state.file_folders = FileFolders(settings.file_folders)
    return settings, app
