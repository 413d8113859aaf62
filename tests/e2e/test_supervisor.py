"""What the supervisor does when its own part of the work fails."""

import asyncio
from pathlib import Path

import pytest

from deploy.embedded.state import Installation
from deploy.embedded.supervisor import Supervisor


async def test_a_migration_that_fails_is_tried_again_and_does_not_leave_all_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    def upgrade(url: str) -> None:
        attempts.append(url)
        if len(attempts) == 1:
            raise OSError("the server is starting up")

    monkeypatch.setattr("deploy.embedded.supervisor.migrations.upgrade", upgrade)
    monkeypatch.setattr("deploy.embedded.supervisor._MIGRATE_AGAIN", 0.01)
    supervisor = Supervisor(Installation.open(tmp_path / "home", port=1))
    supervisor._ready["postgres"].set()
    async with asyncio.timeout(5):
        await supervisor._migrate()
    assert len(attempts) == 2
    assert supervisor._migrated.is_set()
