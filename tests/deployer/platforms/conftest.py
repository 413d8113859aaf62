"""The platforms under test, each a `World`."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from services.deployer.platforms.local import LocalPlatform, Options
from shared.process import processes
from shared.secrets import Vault
from tests.deployer.platforms.world import World, gone

OPTIONS = Options(settle=0.3, backoff=0.5)
VAULT = Vault(bytes(32))


def traces(root: Path, uid: UUID) -> list[str]:
    """The files and processes that are a deployment's."""
    # os.walk does not mind what vanishes under it.
    paths = (Path(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files))
    found = [str(path) for path in paths if str(uid) in str(path)]
    for pid, stat in processes():
        try:
            text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if stat.alive and str(root / str(uid)).encode() in text:
            found.append(f"process {pid}")
    return found


class LocalWorld:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.platform = self._make()

    def _make(self) -> LocalPlatform:
        return LocalPlatform(self.root, lambda digest: f"file:///nowhere/{digest}", vault=VAULT, options=OPTIONS)

    async def again(self) -> None:
        await self.platform.close()
        self.platform = self._make()
        await self.platform.start()

    def leftovers(self, uid: UUID) -> list[str]:
        return traces(self.root, uid)


@pytest.fixture(params=["local"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A platform with nothing on it, and nothing left of it afterwards."""
    local = LocalWorld(tmp_path / "replicas")
    await local.platform.start()
    try:
        yield local
    finally:
        uids = await local.platform.deployments()
        for uid in uids:
            await local.platform.delete(uid)
        for uid in uids:
            await gone(local, uid)
            assert local.leftovers(uid) == []
        await local.platform.close()
