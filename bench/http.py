"""What our HTTP conventions cost a request: sequential calls over one connection to a real server and database.

    python -m bench.http [--calls 2000]

Prints p50 and p99 for a bare route, the same route with the caller authenticated, a POST that writes one row, and one
that appends an event (which the relay in the same process publishes) and carries an Idempotency-Key. PostgreSQL flushes
to disk as in production; `fsync` says what that alone costs here, since it differs most between machines. And how many
access tokens are verified a second and core.
"""

import argparse
import asyncio
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from fastapi import APIRouter, FastAPI

import migrations
from deploy.embedded.postgres import Postgres
from shared import outbox
from shared.database import create_engine, create_sessions
from shared.events import gateway
from shared.http import Body, CurrentCaller, CurrentUnit, DnsLabel, TransactionRoute, create_app
from shared.permissions import ANYBODY, CALLERS
from shared.schema import InstanceType
from shared.service import Core, run
from shared.settings import ServiceSettings
from shared.tokens import Verifier, generate_key_pair, issue
from tests.support.services import People

router = APIRouter(route_class=TransactionRoute)


class Thing(Body):
    name: DnsLabel


@router.get("/bare")
async def bare() -> dict[str, str]:
    return {"name": "x"}


@router.get("/authorised")
async def authorised(caller: CurrentCaller) -> dict[str, str]:
    return {"name": caller.user}


@router.post("/rows")
async def write_row(body: Thing, caller: CurrentCaller, unit: CurrentUnit) -> dict[str, str]:
    unit.session.add(InstanceType(id=f"t-{uuid4().hex}", name=body.name, cpu=1, memory=1))
    return {"name": caller.user}


@router.post("/events")
async def write_event(body: Thing, caller: CurrentCaller, unit: CurrentUnit) -> dict[str, str]:
    unit.session.add(InstanceType(id=f"t-{uuid4().hex}", name=body.name, cpu=1, memory=1))
    await outbox.append(unit.session, gateway.USER_CHANGED, caller.user, user=caller.user)
    return {"name": caller.user}


def create() -> tuple[ServiceSettings, FastAPI]:
    settings = ServiceSettings()
    core = Core(settings, service="bench")

    @asynccontextmanager
    async def nothing_more(_: Core) -> AsyncIterator[None]:
        yield

    async def ready() -> None:
        return None

    return settings, create_app(
        service="bench",
        title="Bench",
        core=core,
        rules={"bare": ANYBODY} | dict.fromkeys(("authorised", "write_row", "write_event"), CALLERS),
        routers=[router],
        lifespan=nothing_more,
        ready=ready,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def database(folder: Path) -> Iterator[str]:
    server = Postgres(data=folder / "data", port=free_port(), password=uuid4().hex)
    server.initialise()
    with (folder / "log").open("w") as output:
        process = subprocess.Popen(server.argv, stdout=output, stderr=output, cwd="/", start_new_session=True)
    try:
        until(lambda: asyncio.run(answers(server.url)))
        migrations.upgrade(server.url)
        yield server.url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


async def answers(url: str) -> bool:
    try:
        await (await asyncpg.connect(url)).close()
    except (OSError, asyncpg.PostgresError):
        return False
    return True


@contextmanager
def service(url: str) -> Iterator[int]:
    port = free_port()
    env = {
        **os.environ,
        "MOORAGE_DATABASE_URL": url,
        "MOORAGE_SECRET_KEY": b64encode(os.urandom(32)).decode(),
        "MOORAGE_PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-m", "bench.http", "--serve"], env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        if time.monotonic() > deadline:
            sys.exit("it did not start within 30 s")
        time.sleep(0.05)


async def sign_in(url: str) -> dict[str, str]:
    engine = create_engine(url, application="bench", connections=2)
    people = People(create_sessions(engine))
    headers = await people.add("ana", groups=[(f"group-{n}", "edit") for n in range(5)])
    await engine.dispose()
    return headers


async def flushes(url: str) -> list[float]:
    """Commits of one row over one connection, nothing else."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE flushes (n int)")
    taken = []
    for n in range(300):
        started = time.perf_counter()
        await connection.execute("INSERT INTO flushes VALUES ($1)", n)
        taken.append(time.perf_counter() - started)
    await connection.close()
    return taken


def calls(port: int, count: int, method: str, path: str, headers: dict[str, str], *, key: bool = False) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    assert connection.sock
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = json.dumps({"name": "x"}) if method == "POST" else None
    taken = []
    for n in range(count + 100):
        sent = {**headers, "Content-Type": "application/json"}
        if key:
            sent["Idempotency-Key"] = uuid4().hex
        started = time.perf_counter()
        connection.request(method, f"/api/v1{path}", body=body, headers=sent)
        answer = connection.getresponse()
        answer.read()
        if n >= 100:  # the first ones fill caches
            taken.append(time.perf_counter() - started)
        if answer.status != 200:
            sys.exit(f"{method} {path} answered {answer.status}")
    return taken


async def verifications(count: int) -> float:
    """Access tokens that were not seen before, verified a second of CPU."""
    key = generate_key_pair("bench")
    now = time.time()

    async def published() -> dict[str, dict[str, Any]]:
        return {key.kid: key.public_jwk}

    verifier = Verifier(published)
    made = [issue(key, user="ana", sign_in=uuid4(), now=now, until=now + 3600) for _ in range(count)]
    started = time.process_time()
    for token in made:
        await verifier.verify(token)
    return count / (time.process_time() - started)


def show(name: str, taken: list[float]) -> None:
    cuts = statistics.quantiles(taken, n=100)
    print(f"{name:42} p50 {cuts[49] * 1000:6.2f} ms   p99 {cuts[98] * 1000:6.2f} ms")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, default=2000)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        run("bench", create)
        return
    print(f"access tokens verified, a second and core     {asyncio.run(verifications(given.calls)):6.0f}")
    # PostgreSQL's own user must be able to enter the folder.
    with tempfile.TemporaryDirectory() as folder, database(Path(folder)) as url:
        headers = asyncio.run(sign_in(url))
        show("fsync: INSERT and commit, nothing else", asyncio.run(flushes(url)))
        with service(url) as port:
            show("GET, bare", calls(port, given.calls, "GET", "/bare", headers))
            show("GET, authenticated", calls(port, given.calls, "GET", "/authorised", headers))
            show("POST, one row", calls(port, given.calls, "POST", "/rows", headers))
            show("POST, row and event", calls(port, given.calls, "POST", "/events", headers))
            show("POST, row, event, Idempotency-Key", calls(port, given.calls, "POST", "/events", headers, key=True))


if __name__ == "__main__":
    main()
