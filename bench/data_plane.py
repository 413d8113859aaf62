"""The data plane's figures, each a ratio or a quantile from one run: `python -m bench.data_plane [--quick]`.

1. Requests of a private endpoint, token on, through the real rendered configuration, beside bare Envoy, nginx with apr1
   (how PrimeHub does it) and a FastAPI + httpx proxy, all before the same upstream. The proxy measured has one core to
   itself; the upstream and the load generator share the other. Rounds alternate, medians count. Given twice: requests a
   second, and requests a second of the proxy's own CPU, which says the same of a machine that others use too.
2. From a change to its acknowledgement by Envoy and its place on the disk, with 10, 2,000 and 10,000 deployments.
3. What quantiles that are interpolated from Envoy's histogram bins err by, against the exact durations.

Needs wrk and taskset; nginx and htpasswd for what compares with nginx (Debian: nginx-light wrk apache2-utils). What is
missing is skipped and said. With fewer than two cores the figures mean nothing.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from deploy.envoy import SERVICES, render
from services.gateway.envoy.model import DeploymentRoutes, Endpoint, EndpointClient
from services.gateway.envoy.platform import PLATFORM, platform_scopes
from services.gateway.envoy.publisher import Enforced, Publisher
from services.gateway.envoy.server import XdsServer
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store

PROXY_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 32
CLIENTS = 21


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_open(port: int, *, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


class Bench:
    """Everything started in one run, and its folder; leaving it ends all of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moorage-bench-"))
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path | int, core: int) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{len(self._children)}.log").open("wb")
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def end(self, child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:
                self.end(child)
        shutil.rmtree(self.folder)

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def envoy(self, name: str, config: str, *, core: int = PROXY_CORE) -> subprocess.Popen[bytes]:
        binary = shutil.which("envoy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if binary is None:
            raise SystemExit("envoy is not installed: the extra `embedded` has it")
        path = self.file(f"{name}.yaml", config)
        options = ("--concurrency", "1", "-l", "error", "--use-dynamic-base-id")
        return self.start(binary, "-c", path, *options, core=core)


# What is compared


def envoy(port: int, action: str, upstream: int = 1) -> str:
    """The least that answers."""
    return f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, {action}}}]}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""


def nginx(server: str, *, http: str = "") -> str:
    return f"""
daemon off; worker_processes 1; pid nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; {http}
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{ {server} }}
}}
"""


FASTAPI_PROXY = """
import httpx
from fastapi import FastAPI, Request, Response

app, client = FastAPI(), httpx.AsyncClient(base_url="http://127.0.0.1:{upstream}")


@app.api_route("/{{path:path}}", methods=["GET", "POST"])
async def forward(request: Request, path: str) -> Response:
    answer = await client.request(request.method, "/" + path, content=await request.body())
    return Response(answer.content, answer.status_code)
"""


class OurEnvoy:
    """The rendered bootstrap, fed by the real control plane, which runs in this process."""

    def __init__(self, bench: Bench, routes: Sequence[DeploymentRoutes]) -> None:
        self._bench = bench
        self._routes = routes
        self.port = free_port()
        self.snapshot = SnapshotFile(bench.folder / f"snapshot-{self.port}.db")
        self.store = Store()
        self.publisher = Publisher(self.store, self.snapshot)
        self.server = XdsServer.of(self.store)

    async def start(self, edit: Callable[[str], str] = str) -> None:
        self.publisher.load(self._routes, others={PLATFORM: platform_scopes()})
        xds = await self.server.start("127.0.0.1:0")
        self.admin_port = free_port()
        config = render(
            port=self.port,
            address="127.0.0.1",
            admin_port=self.admin_port,
            xds=("127.0.0.1", xds),
            snapshot=("127.0.0.1", 1),
            services=dict.fromkeys(SERVICES, ("127.0.0.1", 1)),
        )
        self.child = self._bench.envoy(f"ours-{self.port}", edit(config))
        await asyncio.to_thread(until_open, self.port, within=120)

    async def stop(self) -> None:
        self._bench.end(self.child)
        await self.server.stop()
        await self.publisher.close()
        self.snapshot.close()


def private(number: int, port: int, token: str = "", *, generation: int = 1, share: int = 10) -> DeploymentRoutes:
    """A deployment as people have them: two versions that share the traffic, private, with many clients."""
    others = [EndpointClient.of_token(f"client-{n}", f"moor_client-{n}_{number}") for n in range(CLIENTS - 1)]
    replicas = (Endpoint(f"{number}-1", "127.0.0.1", port),)
    return DeploymentRoutes(
        id=f"d{number}",
        generation=generation,
        clients=(EndpointClient.of_token("ana", token), *others),
        versions={1: replicas, 2: replicas},
        weights={1: 100 - share, 2: share},
    )


# 1. Throughput


class Target(NamedTuple):
    url: str
    headers: Mapping[str, str]
    child: subprocess.Popen[bytes]


class Rate(NamedTuple):
    a_second: float
    a_cpu_second: float


async def throughput(bench: Bench, *, rounds: int, seconds: int) -> dict[str, Rate]:
    upstream = free_port()
    if shutil.which("nginx"):
        config = nginx(f'listen 127.0.0.1:{upstream}; location / {{ return 200 "[1]"; }}')
        bench.start("nginx", "-p", bench.folder, "-c", bench.file("upstream.conf", config), core=LOAD_CORE)
    else:
        print("nginx is missing: another Envoy is the upstream")
        bench.envoy("upstream", envoy(upstream, 'direct_response: {status: 200, body: {inline_string: "[1]"}}'), core=1)
    token = f"moor_ana_{secrets.token_urlsafe(32)}"
    basic = {"authorization": "Basic " + base64.b64encode(f"ana:{token}".encode()).decode()}

    ours = OurEnvoy(bench, [private(number, upstream, token) for number in range(10)])
    await ours.start()
    url = f"http://127.0.0.1:{ours.port}/deployment/d3/predict"
    targets = {
        "moorage, basic": Target(url, basic, ours.child),
        "moorage, bearer": Target(url, {"authorization": f"Bearer {token}"}, ours.child),
    }
    port = free_port()
    bare = bench.envoy("bare", envoy(port, "route: {cluster: up}", upstream))
    targets["bare envoy"] = Target(f"http://127.0.0.1:{port}/predict", basic, bare)
    if shutil.which("nginx") and shutil.which("htpasswd"):
        port = free_port()
        targets["nginx, apr1"] = Target(f"http://127.0.0.1:{port}/predict", basic, apr1(bench, port, upstream, token))
    else:
        print("nginx or htpasswd is missing: nginx with apr1 is not compared")
    port = free_port()
    bench.file("fastapi_proxy.py", FASTAPI_PROXY.format(upstream=upstream))
    uvicorn = ("-m", "uvicorn", "fastapi_proxy:app", "--port", port, "--no-access-log", "--log-level", "error")
    proxy = bench.start(sys.executable, *uvicorn, core=PROXY_CORE)
    targets["fastapi + httpx"] = Target(f"http://127.0.0.1:{port}/predict", basic, proxy)

    rates: dict[str, list[Rate]] = {name: [] for name in targets}
    for number in range(rounds + 1):
        for name, target in targets.items():
            await asyncio.to_thread(until_open, int(re.findall(r":(\d+)/", target.url)[0]))
            rate = await measure(target, seconds=seconds)
            if number:  # the first round warms up
                rates[name].append(rate)
    await ours.stop()
    return {name: Rate(*map(statistics.median, zip(*each, strict=True))) for name, each in rates.items()}


def apr1(bench: Bench, port: int, upstream: int, token: str) -> subprocess.Popen[bytes]:
    users = subprocess.run(["htpasswd", "-nbm", "ana", token], check=True, capture_output=True, text=True).stdout
    config = nginx(
        f"listen 127.0.0.1:{port}; auth_basic moorage; auth_basic_user_file {bench.file('users', users)};"
        'location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }',
        http=f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}",
    )
    config = config.replace("nginx.pid", "apr1.pid").replace("worker_processes 1", "master_process off")
    return bench.start("nginx", "-p", bench.folder, "-c", bench.file("apr1.conf", config), core=PROXY_CORE)


async def measure(target: Target, *, seconds: int, connections: int = CONNECTIONS) -> Rate:
    """What wrk gets answered with 200; anything else ends the run."""
    options = [part for key, value in target.headers.items() for part in ("-H", f"{key}: {value}")]
    command = ("taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *options)
    before = cpu_seconds(target.child.pid)
    wrk = await asyncio.create_subprocess_exec(*command, target.url, stdout=asyncio.subprocess.PIPE)
    output = (await wrk.communicate())[0].decode()
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{target.url}: {output}")
    requests = int(re.findall(r"(\d+) requests in", output)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0])
    return Rate(rate, requests / (cpu_seconds(target.child.pid) - before))


def cpu_seconds(pid: int) -> float:
    """Of all its threads, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


# 2. Change → enforced


class Change(NamedTuple):
    p50: float
    p99: float
    worst: float
    our_cpu: float
    envoys_cpu: float
    load: float


async def changes(bench: Bench, *, deployments: int, count: int) -> Change:
    """Weights and clients of one deployment after the other, one at a time; milliseconds."""
    port = free_port()
    ours = OurEnvoy(bench, [private(number, port) for number in range(deployments)])
    began = time.monotonic()
    await ours.start()
    while len(ours.snapshot.versions) <= deployments:  # noqa: ASYNC110 - the platform has one, too
        await asyncio.sleep(0.05)
    loaded = time.monotonic() - began
    milliseconds = []
    cpu, envoys_cpu = time.process_time(), cpu_seconds(ours.child.pid)
    for turn in range(count):
        number = turn * 7919 % deployments
        changed = private(number, port, f"token {turn}", generation=turn, share=turn % 100)
        started = time.perf_counter()
        outcomes = await ours.publisher.publish({changed.id: changed})
        milliseconds.append((time.perf_counter() - started) * 1e3)
        assert outcomes == {changed.id: Enforced(changed)}
    cpu, envoys_cpu = time.process_time() - cpu, cpu_seconds(ours.child.pid) - envoys_cpu
    await ours.stop()
    milliseconds.sort()
    return Change(
        p50=statistics.median(milliseconds),
        p99=milliseconds[int(len(milliseconds) * 0.99)],
        worst=milliseconds[-1],
        our_cpu=cpu / count * 1e3,
        envoys_cpu=envoys_cpu / count * 1e3,
        load=loaded,
    )


# 3. Quantiles from bins


async def quantiles(bench: Bench, *, connections: int, seconds: int) -> dict[float, tuple[float, float]]:
    """Per quantile the exact duration, and the one interpolated from Envoy's bins; microseconds."""
    upstream = free_port()
    if shutil.which("nginx"):
        config = nginx(f'listen 127.0.0.1:{upstream}; location / {{ return 200 "[1]"; }}').replace("nginx.pid", "q.pid")
        bench.start("nginx", "-p", bench.folder, "-c", bench.file("q.conf", config), core=LOAD_CORE)
    until_open(upstream)
    token = f"moor_ana_{secrets.token_urlsafe(32)}"
    exact = bench.folder / f"durations-{upstream}"
    ours = OurEnvoy(bench, [private(0, upstream, token, share=0)])
    await ours.start(lambda config: config.replace("local_reply_config:", DURATIONS.format(path=exact), 1))
    target = Target(f"http://127.0.0.1:{ours.port}/deployment/d0/x", {"authorization": f"Bearer {token}"}, ours.child)
    await measure(target, seconds=seconds, connections=connections)
    await asyncio.sleep(1.5)  # the file is flushed each second
    async with httpx.AsyncClient() as admin:
        url = f"http://127.0.0.1:{ours.admin_port}/stats?format=json&histogram_buckets=detailed&usedonly&filter=latency"
        await admin.get(url)
        stats = (await admin.get(url)).json()["stats"]
    await ours.stop()
    (histogram,) = (each for stat in stats for each in stat["histograms"]["details"] if each["name"].endswith("200"))
    bins = [(each["lower_bound"], each["width"], each["count"]) for each in histogram["totals"]]
    # Of what wrk broke off at its end there is no duration, in either.
    durations = sorted(int(line) for line in exact.read_text().split() if line != "-")
    return {q: (durations[int(q * len(durations))], interpolate(bins, q)) for q in (0.5, 0.9, 0.95, 0.99)}


DURATIONS = """
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: {path}
                      log_format:
                        text_format_source: {{ inline_string: "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%\\n" }}
                local_reply_config:"""


def interpolate(bins: Sequence[tuple[float, float, int]], quantile: float) -> float:
    """Values are taken to lie evenly within a bin."""
    wanted = quantile * sum(count for _, _, count in bins)
    for lower, width, count in bins:
        if wanted <= count:
            return lower + width * wanted / count
        wanted -= count
    raise ValueError("no bins")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few short rounds, to see that it runs")
    quick: bool = parser.parse_args().quick
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: it is in Debian's package of that name")
    os.sched_setaffinity(0, {LOAD_CORE})
    with Bench() as bench:
        asyncio.run(report(bench, quick=quick))


async def report(bench: Bench, *, quick: bool) -> None:
    rates = await throughput(bench, rounds=3 if quick else 15, seconds=1 if quick else 2)
    print(f"{'requests':20} {'a second':>10} {'a CPU second':>14}   moorage (basic) to it: a second, a CPU second")
    ours = rates["moorage, basic"]
    for name, rate in rates.items():
        ratios = (ours.a_second / rate.a_second, ours.a_cpu_second / rate.a_cpu_second)
        print(f"{name:20} {rate.a_second:10.0f} {rate.a_cpu_second:14.0f}   {ratios[0]:8.2f} {ratios[1]:8.2f}")
    print(f"\n{'deployments':>11} {'p50 ms':>8} {'p99':>8} {'worst':>8} {'our CPU':>8} {'Envoy CPU':>10} {'load s':>8}")
    for deployments in (10, 200) if quick else (10, 2_000, 10_000):
        change = await changes(bench, deployments=deployments, count=50 if quick else 500)
        print(
            f"{deployments:11} {change.p50:8.2f} {change.p99:8.2f} {change.worst:8.2f} {change.our_cpu:8.2f} "
            f"{change.envoys_cpu:10.2f} {change.load:8.1f}"
        )
    print(f"\n{'connections':>11} {'quantile':>9} {'exact µs':>10} {'from bins':>10} {'error':>8}")
    for connections in (4, 32):
        found = await quantiles(bench, connections=connections, seconds=2 if quick else 8)
        for quantile, (exact, estimate) in found.items():
            error = estimate / exact - 1
            print(f"{connections:11} {quantile:9} {exact:10.0f} {estimate:10.0f} {error:8.2%}")


if __name__ == "__main__":
    main()
