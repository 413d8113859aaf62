"""A gateway of its own process, to be killed: `python -m tests.gateway.envoy.gateway_process <state file> <snapshot>`.

The state file is JSON: `port` (xDS), `one` and `two` (ports of models), `weights`, `clients` (names and tokens). Each
line on standard input is another such document, to be published; each outcome is a line on standard output.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from services.gateway.envoy.model import DeploymentRoutes, Endpoint, EndpointClient
from services.gateway.envoy.platform import PLATFORM, platform_scopes
from services.gateway.envoy.publisher import Publisher
from services.gateway.envoy.server import XdsServer
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store


def routes_of(state: dict[str, Any]) -> DeploymentRoutes:
    return DeploymentRoutes(
        id="churn",
        generation=1,
        clients=tuple(EndpointClient.of_token(name, token) for name, token in state["clients"].items()),
        versions={
            1: (Endpoint("one", "127.0.0.1", state["one"]),),
            2: (Endpoint("two", "127.0.0.1", state["two"]),),
        },
        weights={int(version): weight for version, weight in state["weights"].items()},
    )


async def main(state: dict[str, Any], snapshot: Path) -> None:
    store = Store()
    publisher = Publisher(store, SnapshotFile(snapshot))
    publisher.load([routes_of(state)], others={PLATFORM: platform_scopes()})
    server = XdsServer.of(store)
    await server.start(f"127.0.0.1:{state['port']}")
    print("started", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        outcomes = await publisher.publish({"churn": routes_of(json.loads(line))}, within=10)
        print(type(outcomes["churn"]).__name__, flush=True)
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
