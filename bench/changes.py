"""How long a change takes until Envoy enforces it, with 10 and with 2,000 deployments.

    python -m bench.changes [--deployments 10 2000] [--rounds 300]

Real PostgreSQL (durable), the real gateway process, real Envoy; the models are stubs that are never called. Measured
from the caller's side: `let in` and `revoke` are API calls that answer once Envoy has acknowledged; `weights` is the
time from the start of the deployer's transaction until the gateway has recorded what Envoy acknowledged. CPU is what
the gateway and Envoy use for a change, all of it, the API call included.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import psutil

import migrations
from deploy.embedded.postgres import Postgres
from deploy.envoy import SERVICES, render
from services.gateway.identity.passwords import Passwords
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
CLIENTS = 5
PASSWORD = "a password of the bench"


@dataclass
class World:
    url: str
    gateway: psutil.Process
    envoy: psutil.Process
    database: asyncpg.Connection
    uids: list[UUID]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--deployments", type=int, nargs="+", default=[10, 2000])
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    columns = f"{'deployments':>11}  {'change':8} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7}"
    print(f"{columns}  CPU ms a change: gateway  Envoy")
    for count in options.deployments:
        asyncio.run(measure(count, options.rounds))


async def measure(count: int, rounds: int) -> None:
    async with world(count) as here:
        async with httpx.AsyncClient(base_url=here.url) as http:
            form = {"grant_type": "password", "username": "bench", "password": PASSWORD}
            answer = (await http.post("/api/v1/auth/token", data=form)).json()
            http.headers["Authorization"] = f"Bearer {answer['access_token']}"
            clients = "/api/v1/deployments/churn-0/clients"

            async def let_in() -> None:
                answer = await http.post(clients, json={"name": "bench"})
                assert answer.json()["enforced"], answer.text

            async def revoke() -> None:
                answer = await http.delete(f"{clients}/bench")
                assert answer.json()["enforced"], answer.text

            for _ in range(30):
                await let_in()
                await revoke()
            seconds: dict[str, list[float]] = {"let in": [], "revoke": []}
            with cpu(here) as spent:
                for _ in range(rounds):
                    seconds["let in"].append(await timed(let_in()))
                    seconds["revoke"].append(await timed(revoke()))
            for name, values in seconds.items():
                report(count, name, values, [each / rounds / 2 for each in spent])
        async with enforced(here) as recorded:
            values = []
            with cpu(here) as spent:
                for number in range(rounds):
                    values.append(await timed(shift(here, recorded, weight=number % 99 + 1)))
            report(count, "weights", values, [each / rounds for each in spent])


async def timed(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


def report(count: int, change: str, seconds: list[float], cpu_seconds: list[float]) -> None:
    ordered = sorted(1000 * each for each in seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99))
    gateway, envoy = (1000 * each for each in cpu_seconds)
    print(f"{count:>11}  {change:8} {p50:7.1f} {p99:7.1f} {ordered[-1]:7.1f}  {gateway:24.2f} {envoy:6.2f}", flush=True)


@contextlib.contextmanager
def cpu(here: World) -> Iterator[list[float]]:
    """What the gateway and Envoy use meanwhile, in seconds."""

    def now() -> list[float]:
        return [sum(process.cpu_times()[:2]) for process in (here.gateway, here.envoy)]

    spent: list[float] = []
    before = now()
    yield spent
    spent.extend(after - earlier for earlier, after in zip(before, now(), strict=True))


@contextlib.asynccontextmanager
async def enforced(here: World) -> AsyncIterator[asyncio.Queue[str]]:
    """The uids whose routes the gateway records, as it says so."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    def heard(*args: object) -> None:
        kind, _, uid = str(args[3]).partition(" ")
        if kind == "moorage.route.enforced":
            queue.put_nowait(uid)

    await here.database.add_listener("moorage", heard)
    yield queue
    await here.database.remove_listener("moorage", heard)


async def shift(here: World, recorded: asyncio.Queue[str], *, weight: int) -> None:
    """What the deployer does for a change of the weights, and wait for the gateway's word."""
    uid = here.uids[0]
    async with here.database.transaction():
        weights = json.dumps({"1": weight, "2": 100 - weight})
        await here.database.execute(
            "UPDATE deployments SET generation = generation + 1, "
            "spec = jsonb_set(spec, '{traffic,weights}', $2::jsonb) WHERE uid = $1",
            uid,
            weights,
        )
        await here.database.execute("SELECT pg_notify('moorage', $1)", f"moorage.deployment.changed {uid}")
    async with asyncio.timeout(10):
        while await recorded.get() != str(uid):
            pass


@contextlib.asynccontextmanager
async def world(count: int) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as processes:
        folder = Path(name)
        os.chmod(folder, 0o711)  # noqa: PTH101  # PostgreSQL's own user passes through; a local folder blocks nobody
        server = Postgres(data=folder / "postgres", port=free_port(), password=uuid4().hex)
        server.initialise()
        start(processes, server.argv, folder / "postgres.log", stop="interrupt")
        database = await connected(server.url)
        await asyncio.to_thread(migrations.upgrade, server.url)
        uids = await fill(database, count)
        ports = {each: free_port() for each in ("gateway", "xds", "front", "admin")}
        environment = {
            "MOORAGE_DATABASE_URL": server.url,
            "MOORAGE_SECRET_KEY": b64encode(os.urandom(32)).decode(),
            "MOORAGE_PORT": str(ports["gateway"]),
            "MOORAGE_XDS_PORT": str(ports["xds"]),
            "MOORAGE_SNAPSHOT_PATH": str(folder / "snapshot.db"),
        }
        gateway = start(processes, [sys.executable, "-m", "services.gateway"], folder / "gateway.log", environment)
        config = folder / "envoy.yaml"
        config.write_text(
            render(
                port=ports["front"],
                address="127.0.0.1",
                admin_port=ports["admin"],
                xds=("127.0.0.1", ports["xds"]),
                snapshot=("127.0.0.1", 1),
                services=dict.fromkeys(SERVICES, ("127.0.0.1", ports["gateway"])),
            )
        )
        program = str(Path(sys.executable).with_name("envoy"))
        command = [program, "-c", str(config), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
        envoy = start(processes, command, folder / "envoy.log")
        deadline = time.monotonic() + 120
        while await database.fetchval("SELECT count(*) FROM routes") < count:
            assert time.monotonic() < deadline, (folder / "gateway.log").read_text()[-3000:]
            await asyncio.sleep(0.2)
        url = f"http://127.0.0.1:{ports['gateway']}"
        yield World(url, psutil.Process(gateway.pid), psutil.Process(envoy.pid), database, uids)
        await database.close()


def start(
    processes: contextlib.ExitStack,
    command: list[str],
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    stop: str = "terminate",
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        env = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=ROOT)

    def end() -> None:
        process.send_signal(2) if stop == "interrupt" else process.terminate()
        process.wait(20)

    processes.callback(end)
    return process


async def connected(url: str) -> asyncpg.Connection:
    deadline = time.monotonic() + 30
    while True:
        try:
            return await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def fill(database: asyncpg.Connection, count: int) -> list[UUID]:
    """`count` private deployments with two versions, a replica each, and some clients."""
    uids = [uuid4() for _ in range(count)]
    versions = [{"number": 1, "runtime": "inference"}, {"number": 2, "runtime": "inference"}]
    spec = json.dumps({"access": "private", "versions": versions, "traffic": {"weights": {"1": 100, "2": 0}}})
    password_hash = await Passwords().hash(PASSWORD)
    await database.execute(
        "INSERT INTO groups (id, name, deployment_enabled, version) VALUES ('risk', 'Risk', true, 1)"
    )
    await database.execute(
        "INSERT INTO users (id, display_name, admin, disabled, password_hash, version) "
        "VALUES ('bench', '', true, false, $1, 1)",
        password_hash,
    )
    await database.execute(
        """
        INSERT INTO deployments (uid, id, group_id, name, spec, stopped, generation, revision, message, reserved_cpu,
            reserved_memory, reserved_gpu, created_by, updated_by, phase, observed_generation, settled, conditions,
            version_status, endpoints_generation, last_version)
        SELECT uid, 'churn-' || position - 1, 'risk', 'Churn', $2::jsonb, false, 1, 1, '', 1, 1, 0, 'bench', 'bench',
            'Deployed', 1, true, '[]', '[]', 1, 2
        FROM unnest($1::uuid[]) WITH ORDINALITY AS given (uid, position)
        """,
        uids,
        spec,
    )
    await database.execute(
        """
        INSERT INTO replicas (id, uid, version, template, phase, routable, endpoints_generation, host, port, restarts)
        SELECT 'r-' || uid || '-' || version, uid, version, 't', 'Ready', true, 1, '127.0.0.1', 9000 + version, 0
        FROM unnest($1::uuid[]) AS uid, generate_series(1, 2) AS version
        """,
        uids,
    )
    await database.execute(
        """
        INSERT INTO endpoint_clients (uid, name, sha1, created_by, version)
        SELECT uid, 'client-' || number, encode(substring(sha256((uid || '-' || number)::bytea) FOR 20), 'base64'),
            'bench', 1
        FROM unnest($1::uuid[]) AS uid, generate_series(1, $2) AS number
        """,
        uids,
        CLIENTS,
    )
    return uids


if __name__ == "__main__":
    main()
