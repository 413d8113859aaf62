"""What the tests of the data plane stand on: a real Envoy with the rendered bootstrap, stub models, callers."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from deploy.envoy import SERVICES, render
from services.gateway.envoy.model import Access, DeploymentRoutes, Endpoint, EndpointClient
from services.gateway.envoy.platform import PLATFORM, platform_scopes
from services.gateway.envoy.publisher import Outcome, Publisher
from services.gateway.envoy.server import XdsServer
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]

TOKEN = "moor_ana_" + "x" * 43
BEARER = {"authorization": f"Bearer {TOKEN}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def until(condition: Callable[[], Any | Awaitable[Any]], *, within: float = 10.0, what: str = "") -> Any:
    """Poll until it is truthy; answers what it was."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError, httpx.TransportError):
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
        assert time.monotonic() < deadline, f"not within {within} s: {what or condition}"
        await asyncio.sleep(0.02)


async def listens(port: int) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await hang_up(writer)
    return True


# A model


class Stub:
    """A model's stand-in: answers with its name and what it was sent, as it was sent; speaks websocket's handshake.

    `headers`: lines of its answers beside the length.
    """

    def __init__(self, name: str, *, headers: Sequence[str] = ()) -> None:
        self.name = name
        self._headers = "".join(f"{line}\r\n" for line in headers).encode()
        self.port = 0
        self.requests = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = [(key.lower(), value) for key, _, value in (line.partition(": ") for line in lines)]
                fields = dict(headers)
                self.requests += 1
                if fields.get("upgrade") == "websocket":
                    writer.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
                    )
                    writer.write((await reader.readexactly(5))[::-1])
                    await writer.drain()
                    continue
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                answer = {"name": self.name, "request": first, "headers": headers, "body": body.decode()}
                payload = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n" % (self._headers, len(payload)) + payload
                )
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


def routes(
    stubs: Mapping[int, Stub | Sequence[Stub]],
    weights: Mapping[int, int],
    *,
    deployment: str = "churn",
    generation: int = 1,
    access: Access = "private",
    clients: tuple[EndpointClient, ...] | None = None,
    stopped: bool = False,
) -> DeploymentRoutes:
    """Routes with the client `ana`, unless said otherwise."""
    return DeploymentRoutes(
        id=deployment,
        generation=generation,
        access=access,
        clients=(EndpointClient.of_token("ana", TOKEN),) if clients is None else clients,
        versions={
            version: tuple(
                Endpoint(stub.name, "127.0.0.1", stub.port) for stub in ([some] if isinstance(some, Stub) else some)
            )
            for version, some in stubs.items()
        },
        weights=weights,
        stopped=stopped,
    )


# The gateway's side, in the test's own process


class ControlPlane:
    """Store, publisher, snapshot and server together, as the gateway has them."""

    def __init__(self, snapshot: Path, *, port: int = 0, patience: float = 10.0) -> None:
        self.store = Store()
        self.snapshot = SnapshotFile(snapshot)
        self.outcomes: list[tuple[str, Outcome]] = []
        self.publisher = Publisher(self.store, self.snapshot, notify=lambda *told: self.outcomes.append(told))

        async def store() -> Store:
            return self.store

        self.server = XdsServer(store, patience=patience)
        self.port = port

    async def start(self, *deployments: DeploymentRoutes) -> Self:
        self.publisher.load(deployments, others={PLATFORM: platform_scopes()})
        self.port = await self.server.start(f"127.0.0.1:{self.port}")
        return self

    async def publish(self, deployment: DeploymentRoutes, *, within: float = 5.0) -> Outcome:
        return (await self.publisher.publish({deployment.id: deployment}, within=within))[deployment.id]

    async def stop(self) -> None:
        await self.server.stop()
        await self.publisher.close()
        self.snapshot.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


# Processes


class Child:
    """A process of the test's own; the test ends it, whatever happens."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        """`talks`: its standard input and output are pipes, for `tell`."""
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def kill(self) -> None:
        """Like kill -9."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    async def hear(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            line = await asyncio.to_thread(self.process.stdout.readline)
        return line.decode().strip()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    async def tell(self, line: str) -> str:
        """Say a line; answers the one that it says then."""
        self.say(line)
        return await self.hear()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
        if kind is not None:
            print(f"--- {self.log.name}", self.log.read_text()[-4000:], sep="\n")


class Envoy(Child):
    """A real one, on free ports. `services` is where the API's four clusters lead."""

    def __init__(
        self,
        folder: Path,
        *,
        xds: int,
        snapshot: int = 1,
        services: int = 1,
        name: str = "envoy",
        trusted_proxies: int = 0,
    ) -> None:
        self.port, self.admin_port = free_port(), free_port()
        config = folder / f"{name}.yaml"
        config.write_text(
            render(
                port=self.port,
                address="127.0.0.1",
                admin_port=self.admin_port,
                xds=("127.0.0.1", xds),
                snapshot=("127.0.0.1", snapshot),
                services=dict.fromkeys(SERVICES, ("127.0.0.1", services)),
                node_id=name,
                trusted_proxies=trusted_proxies,
            )
        )
        binary = shutil.which("envoy", path=str(Path(sys.executable).parent))
        assert binary is not None
        options = ("--concurrency", "1", "-l", "warning", "--use-dynamic-base-id", "--drain-time-s", "1")
        self._command = (binary, "-c", config, *options)
        super().__init__(self._command, log=folder / f"{name}.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ready(self, *, within: float = 10) -> Self:
        """Until it listens: it has then got its first scopes, or given up waiting."""
        await until(self._listens, within=within, what="Envoy listens")
        return self

    async def _listens(self) -> bool:
        return await listens(self.port)

    async def stats(self) -> Any:
        url = f"http://127.0.0.1:{self.admin_port}/stats"
        async with httpx.AsyncClient(verify=False) as admin:
            await admin.get(f"{url}?filter=^$")  # merges the histograms, for the next answer
            answer = await admin.get(f"{url}?format=json&usedonly&histogram_buckets=detailed&filter=^moorage")
        return answer.json()["stats"]

    async def config_dump(self) -> str:
        async with httpx.AsyncClient(verify=False) as admin:
            return (await admin.get(f"http://127.0.0.1:{self.admin_port}/config_dump?include_eds")).text


# Callers


class Answer(NamedTuple):
    status: int
    headers: httpx.Headers
    body: Any

    @property
    def model_saw(self) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.body["headers"]]


async def call(envoy: Envoy, path: str, *, method: str = "GET", **options: Any) -> Answer:
    async with httpx.AsyncClient(base_url=envoy.url, verify=False) as client:
        response = await client.request(method, path, **options)
    return Answer(response.status_code, response.headers, response.json() if response.content else None)


async def raw(envoy: Envoy, text: str, *, body: str = "") -> str:
    """Bytes as they are, for what no client library would send. Answers the head and the body that come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port)
    writer.write((text.replace("\n", "\r\n") + "\r\n" + body).encode("latin-1"))
    try:
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            answer = await reader.readexactly(content_length(head))
    finally:
        await hang_up(writer)
    return head + answer.decode()


def content_length(head: str) -> int:
    return next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Load:
    """Callers that never pause, each on a connection of its own, and what they were answered."""

    def __init__(self, envoy: Envoy, path: str = "/deployment/churn/x", *, callers: int = 4) -> None:
        self._envoy, self._callers = envoy, callers
        self._request = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
        self.statuses: Counter[int] = Counter()
        self.names: Counter[str] = Counter()
        self.failures: list[str] = []

    @property
    def total(self) -> int:
        return sum(self.statuses.values()) + len(self.failures)

    async def more(self, count: int) -> None:
        """Until so many further calls are answered."""
        target = self.total + count
        await until(lambda: self.total >= target, within=60, what=f"{count} more calls")

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(self._callers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def assert_none_failed(self) -> None:
        assert self.failures == []
        assert set(self.statuses) == {200}, self.statuses

    async def _call(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._envoy.port)
        try:
            while True:
                writer.write(self._request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = json.loads(await reader.readexactly(content_length(head)))
                self.statuses[int(head[9:12])] += 1
                self.names[body.get("name", "")] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failures.append(repr(error))
        finally:
            await hang_up(writer)


@contextlib.asynccontextmanager
async def stubs(*names: str) -> AsyncIterator[list[Stub]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Stub(name)) for name in names]
