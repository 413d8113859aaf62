"""A gateway, and one with a real Envoy in front of stub models."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.envoy.harness import Envoy
from tests.gateway.world import Gateway, running_gateway, settings_of


@pytest.fixture
async def gateway(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(settings_of(environment, tmp_path)) as running:
        yield running


@pytest.fixture
async def envoy(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Envoy]:
    """An Envoy that is fed by `gateway`, and listens."""
    with Envoy(tmp_path, xds=gateway.settings.xds_port) as running:
        yield await running.ready()
