"""A real Envoy with the real bootstrap, so with the real counting, and routes that are fixed instead of the gateway's.

Its upstream is a listener of its own that answers `/<status>` with that status; a password is the client's name.
"""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from deploy.envoy import SERVICES, render
from tests.support.ports import free_port

ENVOY = Path(sys.executable).with_name("envoy")
STATUSES = (200, 302, 404, 422, 500)
CLIENTS = ("ana", "ben.b-1")


class Front:
    def __init__(self, folder: Path, *, deployments: Iterable[str] = ("churn", "fraud")) -> None:
        self._config = folder / "envoy.json"
        self._log = folder / "envoy.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.admin_port = free_port(), free_port()
        self._config.write_text(json.dumps(_bootstrap(self.port, self.admin_port, free_port(), deployments)))

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> Self:
        self._process = self._run()
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                try:
                    if (await client.get(f"{self.admin}/ready")).status_code == 200:
                        return self
                except httpx.HTTPError:
                    assert self._process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.02)

    def _run(self) -> subprocess.Popen[bytes]:
        argv = [ENVOY, "-c", self._config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
        with self._log.open("ab") as output:
            return subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def call(
        self, times: int, *, deployment: str = "churn", version: int = 1, status: int = 200, client: str | None = "ana"
    ) -> None:
        """Requests one after the other, each with the answer it should have."""
        url = f"http://127.0.0.1:{self.port}/deployment/{deployment}/versions/{version}/{status}"
        async with httpx.AsyncClient(auth=(client, client) if client else None) as http:
            for _ in range(times):
                answer = await http.get(url)
                assert answer.status_code == (status if client else 401)


def _bootstrap(port: int, admin_port: int, upstream: int, deployments: Iterable[str]) -> dict[str, Any]:
    nowhere = ("127.0.0.1", free_port())
    rendered = render(
        port=port,
        admin_port=admin_port,
        xds=nowhere,
        snapshot=nowhere,
        services=dict.fromkeys(SERVICES, nowhere),
        address="127.0.0.1",
    )
    config: dict[str, Any] = yaml.safe_load(rendered)
    del config["dynamic_resources"]
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["scoped_routes"]
    names = [(deployment, f"{deployment}/{version}") for deployment in deployments for version in (1, 2)]
    resources["clusters"] += [_cluster(cluster, upstream) for _, cluster in names]
    users = "".join(f"{name}:{{SHA}}{_sha1(name)}\n" for name in CLIENTS)
    manager["route_config"] = {
        "virtual_hosts": [
            {
                "name": "*",
                "domains": ["*"],
                "routes": [
                    {
                        "name": deployment,
                        "match": {"prefix": f"/deployment/{deployment}/versions/{cluster.partition('/')[2]}/"},
                        "route": {"cluster": cluster, "prefix_rewrite": "/"},
                    }
                    for deployment, cluster in names
                ],
                "typed_per_filter_config": {
                    "envoy.filters.http.basic_auth": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute",
                        "users": {"inline_string": users},
                    }
                },
            }
        ]
    }
    resources["listeners"].append(_upstream(upstream, kind=manager["@type"]))
    return config


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    endpoints = [{"lb_endpoints": [{"endpoint": address}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def _upstream(port: int, *, kind: str) -> dict[str, Any]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    routes = [{"match": {"path": f"/{status}"}, "direct_response": {"status": status}} for status in STATUSES]
    manager = {
        "@type": kind,
        "stat_prefix": "upstream",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "*", "domains": ["*"], "routes": routes}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "upstream",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }


def _sha1(text: str) -> str:
    return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
