"""What befalls a deployer and its API server while a storm is on: kills, cuts, refusals, lost answers. All seeded."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from shared.process import probe_http
from tests.chaos.cluster import Cluster
from tests.servers.faults import some_of
from tests.support.waiting import until

Bad = Callable[[Cluster, random.Random], Coroutine[Any, Any, None]]
"""Goes on until it is cancelled."""


async def deployer_dies(cluster: Cluster, chance: random.Random) -> None:
    """kill -9 at any moment, at times while it starts; its supervisor starts it again.

    It lives for about as long as its start takes: on a busy machine too it gets something done in between.
    """
    port, took = cluster.platform.here.ports["deployer"], 2.0
    while True:
        await asyncio.sleep(took * chance.uniform(0.1, 2.5))
        await asyncio.to_thread(cluster.platform.kill, "deployer")
        if chance.random() < 0.75:
            began = time.monotonic()
            await until(lambda: probe_http("127.0.0.1", port, "/healthz", deadline=2), within=60)
            took = time.monotonic() - began


async def api_server_dies(cluster: Cluster, chance: random.Random) -> None:
    """And comes back having forgotten what it remembered of the past: etcd is compacted before."""
    while True:
        await asyncio.sleep(chance.uniform(4.0, 10.0))
        cluster.plane.compact()
        cluster.plane.api_server.kill()
        try:
            await asyncio.sleep(chance.uniform(0.0, 3.0))
        finally:
            await cluster.plane.start_api_server()


async def line_is_bad(cluster: Cluster, chance: random.Random) -> None:
    """Watches are cut every second, calls are refused, and of what was done the answer is lost at times."""
    loses = random.Random(chance.random())

    def lose(request: web.BaseRequest) -> bool:
        return request.method in ("PATCH", "POST", "DELETE") and loses.random() < 0.1

    cluster.faults.cut_watches_after = 1.0
    cluster.faults.cut_watches()
    cluster.faults.refuse = some_of(0.15, seed=chance.randint(0, 2**31))
    cluster.faults.lose = lose
    try:
        await asyncio.Event().wait()
    finally:
        cluster.faults.cut_watches_after = None
        cluster.faults.refuse = lambda request: None
        cluster.faults.lose = lambda request: False


ALL = (deployer_dies, api_server_dies, line_is_bad)


@asynccontextmanager
async def weather(cluster: Cluster, *bad: Bad, seed: int) -> AsyncIterator[None]:
    """All of it at once; afterwards everything runs again."""
    tasks = [asyncio.create_task(each(cluster, random.Random(f"{seed} {each.__name__}"))) for each in bad]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    await asyncio.to_thread(cluster.platform.wait_ready)
