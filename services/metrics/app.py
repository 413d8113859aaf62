"""Composition root of the metrics service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from math import ceil

import httpx
from fastapi import FastAPI

from services.metrics import exposition
from services.metrics.api import create_router
from services.metrics.domain import HOUR, MINUTE, RAW
from services.metrics.envoy import Admin
from services.metrics.rollup import keep_rolling
from services.metrics.scraper import Scraper
from services.metrics.settings import MetricsSettings
from shared.http.app import create_app
from shared.permissions import TABLE
from shared.service import Core

__all__ = ["create"]


def create() -> tuple[MetricsSettings, FastAPI]:
    settings = MetricsSettings()
    core = Core(settings, service="metrics")
    kept = {
        RAW: timedelta(hours=settings.metrics_raw_hours),
        MINUTE: timedelta(days=settings.metrics_minute_days),
        HOUR: timedelta(days=settings.metrics_hour_days),
    }

    @asynccontextmanager
    async def beside_the_api(core: Core) -> AsyncIterator[None]:
        for url in settings.envoys:
            core.background(f"scrape {url}", partial(_scrape, core, url, every=settings.scrape_seconds))
        core.background("rollup", partial(keep_rolling, core.sessions, kept=kept))
        yield

    async def ready() -> str | None:
        # With Envoy away there is nothing new to tell, but all that was.
        return None

    router = create_router(
        kept={resolution: age.total_seconds() for resolution, age in kept.items()},
        finest=ceil(settings.scrape_seconds / RAW) * RAW,
    )
    app = create_app(
        service="metrics",
        title="Moorage metrics",
        core=core,
        rules=TABLE["metrics"],
        routers=[router],
        tags={"metrics": "Rates, errors and latencies, as series and as totals."},
        lifespan=beside_the_api,
        ready=ready,
        exposition=partial(exposition.endpoints, core.sessions),
    )
    return settings, app


async def _scrape(core: Core, url: str, *, every: float) -> None:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        await Scraper(core.engine, Admin(url, client), every=every).run()
