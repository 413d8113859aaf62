"""A registry for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.registry.world import Registry, running_registry


@pytest.fixture
async def registry(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(environment, tmp_path) as running:
        yield running
