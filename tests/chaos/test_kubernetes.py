"""Under fire on Kubernetes, a short storm each; `python -m tests.chaos.kubernetes` is the long one."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded.units import service_env
from shared.process import Process, probe_http
from tests.chaos.cluster import Cluster
from tests.chaos.kubernetes import one
from tests.chaos.storm import Storm
from tests.chaos.weather import Bad, api_server_dies, deployer_dies, line_is_bad, weather
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.chaos, pytest.mark.xdist_group("kubernetes")]


@pytest.mark.parametrize("bad", [(deployer_dies,), (api_server_dies, line_is_bad)], ids=["deployer", "api-server"])
def test_every_deployment_ends_as_it_was_asked_for_last(cluster: Cluster, bad: tuple[Bad, ...]) -> None:
    asyncio.run(one(cluster, *bad, count=15, seed=1))


def test_two_deployers_do_not_fight(cluster: Cluster) -> None:
    """On one database and one cluster; one of them dies at times. What is settled is not touched again."""

    async def stands_still() -> bool:
        before = cluster.versions()
        await asyncio.sleep(6.0)  # both look for what has not settled every five
        return cluster.versions() == before

    async def storm() -> None:
        storm = Storm(cluster, 8, seed=3, steps=4)
        async with _another_deployer(cluster):
            async with weather(cluster, deployer_dies, seed=3):
                await storm.rage()
            await storm.settle()
            # After its start each looks at everything once, and renews models' addresses; a fight would never end.
            await until(stands_still, within=60)
        await storm.clear()

    asyncio.run(storm())


@asynccontextmanager
async def _another_deployer(cluster: Cluster) -> AsyncIterator[None]:
    """Beside the one of the installation."""
    here, port = cluster.platform.here, free_port()
    env = service_env(here, "deployer") | {"MOORAGE_PORT": str(port)}
    argv = [sys.executable, "-m", "services.deployer"]
    process = await Process.start(argv, env=env, cwd=Path("/"), output=here.logs / "deployer-2.log")
    try:
        await until(lambda: probe_http("127.0.0.1", port, "/readyz", deadline=2), within=60)
        yield
    finally:
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()
