"""What the contract needs of a platform under test, and a deployer and data plane to go with it."""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

from services.deployer.platforms import Phase, Platform, Probe, Replica, Resources, Template, Workload

SERVER = Path(__file__).with_name("replica_server.py")
MIB = 1 << 20


class LivePlatform(Platform, Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


class World(ABC):
    """One platform under test. A second one gives this, and the contract runs on it as it is."""

    platform: LivePlatform
    deadline = 15.0
    """So many seconds may anything take."""
    measures = True
    """Whether the platform tells what replicas use."""

    @abstractmethod
    async def again(self) -> None:
        """The deployer restarts: another platform object, the same world."""

    @abstractmethod
    def leftovers(self, uid: UUID) -> list[str]:
        """All traces of a deployment in the world, for people to read."""

    def clear(self) -> None:  # noqa: B027 - most have nothing
        """Remove what the platform has made beside deployments."""

    def namespace(self, group: str) -> str:
        """What a replica takes for its namespace."""
        return group

    def template(self, *args: str, **options: Any) -> Template:
        """A replica of `replica_server.py`; see `template`."""
        return template(*args, **options)

    def workload(self, replicas: int = 1, **options: Any) -> Workload:
        return workload(replicas, **{"template": self.template(), **options})

    async def drive(
        self,
        wanted: Workload,
        until: Callable[[list[Replica]], bool] | None = None,
        *,
        routes: "Routes | None" = None,
    ) -> list[Replica]:
        return await drive(self.platform, wanted, until, routes=routes, deadline=self.deadline)

    async def eventually(self, uid: UUID, until: Callable[[list[Replica]], bool]) -> list[Replica]:
        return await eventually(self.platform, uid, until, deadline=self.deadline)


def template(
    *args: str,
    command: tuple[str, ...] = ("python", str(SERVER)),
    image: str = "",
    cpu: float = 1.0,
    memory: int = 0,
    start_seconds: float = 30.0,
    nonce: str = "",
    **env: str,
) -> Template:
    return Template(
        runtime="test",
        command=command,
        args=args,
        image=image,
        env=env,
        resources=Resources(cpu=cpu, memory=memory),
        probe=Probe(start_seconds=start_seconds),
        nonce=nonce,
        grace_seconds=5.0,
    )


def workload(replicas: int = 1, **options: object) -> Workload:
    base = Workload(
        uid=uuid4(),
        id="churn",
        group="risk",
        version=1,
        template=options.pop("template", template()),
        replicas=replicas,
    )
    return replace(base, **options)


def ready(replicas: Iterable[Replica]) -> list[Replica]:
    return [r for r in replicas if r.phase is Phase.READY]


def present(replicas: Iterable[Replica]) -> list[Replica]:
    return [r for r in replicas if r.phase is not Phase.ENDED]


def first(holds: Callable[[Replica], bool]) -> Callable[[list[Replica]], bool]:
    """Whether it holds of the oldest replica, once there is one."""
    return lambda replicas: bool(replicas) and holds(replicas[0])


def settled(wanted: Workload) -> Callable[[list[Replica]], bool]:
    """Exactly what is wanted is there, and Ready."""

    def holds(replicas: list[Replica]) -> bool:
        mine = [r for r in present(replicas) if r.version == wanted.version]
        return (
            len(mine) == wanted.replicas == len([r for r in ready(mine) if r.template_digest == wanted.template.digest])
        )

    return holds


@dataclass
class Routes:
    """A data plane that follows what is Ready, and says what it routes to."""

    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)

    def follow(self, replicas: Iterable[Replica]) -> frozenset[str]:
        self.addresses = {r.id: (r.host, r.port) for r in ready(replicas)}
        return frozenset(self.addresses)


async def drive(
    platform: Platform,
    wanted: Workload,
    until: Callable[[list[Replica]], bool] | None = None,
    *,
    routes: Routes | None = None,
    deadline: float = 15.0,
) -> list[Replica]:
    """Be the deployer and the data plane until the replicas are as asked; the replicas then."""
    until, routes = until or settled(wanted), routes or Routes()
    end = time.monotonic() + deadline
    while True:
        routed = routes.follow(await platform.observe(wanted.uid))
        await platform.apply(replace(wanted, keep=routed, serving=routed))
        replicas = await platform.observe(wanted.uid)
        if until(replicas):
            return replicas
        assert time.monotonic() < end, replicas
        await asyncio.sleep(0.02)


async def eventually(
    platform: Platform, uid: UUID, until: Callable[[list[Replica]], bool], *, deadline: float = 15.0
) -> list[Replica]:
    """Only look, until the replicas are as asked."""
    end = time.monotonic() + deadline
    while not until(replicas := await platform.observe(uid)):
        assert time.monotonic() < end, replicas
        await asyncio.sleep(0.02)
    return replicas


async def gone(world: World, uid: UUID, *, deadline: float | None = None) -> None:
    end = time.monotonic() + (deadline or world.deadline)
    while uid in await world.platform.deployments():
        assert time.monotonic() < end, await world.platform.observe(uid)
        await asyncio.sleep(0.02)


async def get(host: str, port: int, path: str = "/") -> str:
    """A GET on a connection of its own; OSError or EOFError when it does not come through."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        head, body = await reader.readuntil(b"\r\n\r\n"), await reader.read()
        if not head.startswith(b"HTTP/1.1 200 "):
            raise EOFError(head)
        return body.decode()
    finally:
        writer.transport.abort()


async def ask(replica: Replica, path: str = "/") -> str:
    return await get(replica.host, replica.port, path)


async def who(replica: Replica) -> str:
    """Which run of which replica answers: no two say the same."""
    return await ask(replica, "/who")


async def tell(replica: Replica, path: str) -> None:
    """For what cannot answer."""
    with contextlib.suppress(OSError, EOFError):
        await ask(replica, path)


async def lines(source: AsyncIterator[str]) -> list[str]:
    """Log lines without their time."""
    return [line.split(" ", 1)[1] async for line in source]


@contextlib.asynccontextmanager
async def load(routes: Routes, *, clients: int = 4) -> AsyncIterator[list[str]]:
    """Calls to whatever is routed; what failed is in the list."""
    failed: list[str] = []
    calls = 0

    async def client() -> None:
        nonlocal calls
        while True:
            address = random.choice(list(routes.addresses.values()))
            try:
                async with asyncio.timeout(5):
                    await get(*address, "/slow")
            except (OSError, EOFError, TimeoutError) as error:
                failed.append(f"{address}: {error!r}")
            calls += 1

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield failed
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert calls > 0
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
