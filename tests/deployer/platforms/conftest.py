"""The platforms under test, each a `World`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from services.deployer.platforms.local import LocalPlatform, Options
from shared.process import processes
from shared.secrets import Vault
from tests.deployer.platforms.world import World, gone
from tests.servers import chart, images
from tests.servers.kubernetes import ControlPlane
from tests.servers.node import Node

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


class LocalWorld(World):
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


@pytest.fixture(scope="session")
def real_cluster(real_node: Node) -> tuple[ControlPlane, Path]:
    """With the replica's image, the chart, and a file of the service account that it has for the deployer."""
    real_node.load(images.REPLICA)
    chart.install(real_node.plane.admin)
    return real_node.plane, real_node.plane.admin.kubeconfig_for(chart.SERVICE_ACCOUNT)


@pytest.fixture(
    params=["local", pytest.param("kubernetes", marks=[pytest.mark.kubernetes, pytest.mark.xdist_group("node")])]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "local":
        return LocalWorld(tmp_path / "replicas")
    from tests.deployer.platforms.kubernetes.world import KubernetesWorld  # takes a second and a half

    plane, kubeconfig = request.getfixturevalue("real_cluster")
    return KubernetesWorld(plane, kubeconfig, image=images.REPLICA.reference)


@pytest.fixture
async def world(place: World) -> AsyncIterator[World]:
    """A platform with nothing on it, and nothing left of it afterwards."""
    async with lived_in(place):
        yield place


@asynccontextmanager
async def lived_in(world: World) -> AsyncIterator[None]:
    """Started, and in the end cleared of everything and closed; nothing may be left."""
    await world.platform.start()
    try:
        await world.platform.known()
        yield
    finally:
        try:
            uids = await world.platform.deployments()
            for uid in uids:
                await world.platform.delete(uid)
            for uid in uids:
                await gone(world, uid)
                assert world.leftovers(uid) == []
        finally:
            await world.platform.close()
            world.clear()
