"""What every service holds while it runs: database, hints, bus, relay, keys. And how its process is run."""

import asyncio
import ctypes
import gc
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy import func, select, text

from shared.audit import Allowance
from shared.bus import Bus, BusUnavailable
from shared.bus.connect import connect
from shared.database import Direct, Hints, create_engine, create_sessions
from shared.housekeeping import SHARED, Housekeeping
from shared.last_uses import LastUses
from shared.outbox import Relay
from shared.reconcile import Leases
from shared.schema import SigningKey
from shared.secrets import Vault
from shared.settings import ServiceSettings
from shared.telemetry import configure_logging, get_logger
from shared.tokens import Verifier

log = get_logger(__name__)

_PR_SET_DUMPABLE = 4


class Core:
    """Opened by the application's lifespan; everything in it is shared by the API and the background work."""

    def __init__(self, settings: ServiceSettings, *, service: str) -> None:
        url = str(settings.database_url)
        self.service = service
        self.public_url = settings.public_url
        self.web_origins = settings.web_origins
        # A third of them does nearly all the work: what runs with every request and every event.
        direct = settings.database_connections // 3
        self.direct = Direct(url, application=f"moorage-{service}", connections=direct)
        self.engine = create_engine(
            url, application=f"moorage-{service}", connections=settings.database_connections - direct
        )
        self.sessions = create_sessions(self.engine)
        # For requests that only read: no BEGIN, no ROLLBACK, nothing held open between two statements.
        self.reading = create_sessions(self.engine.execution_options(isolation_level="AUTOCOMMIT"))
        self.hints = Hints(url)
        self.bus: Bus = connect(settings, self.direct, self.hints)
        self.housekeeping = Housekeeping(self.engine, [*SHARED, *self.bus.chores()])
        self.vault = Vault(settings.root_key)
        self.verifier = Verifier(self._public_keys)
        self.denials = Allowance()
        self.last_uses = LastUses(self.sessions)
        self.leases = Leases(self.direct, owner=f"{service}/{socket.gethostname()}/{os.getpid()}")
        # Set when the service begins to stop: streams end then, or they would be waited for.
        self.stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.direct.open()
        await self.hints.start()
        self.background("relay", Relay(self.direct, self.bus, self.hints).run)
        self.background("housekeeping", self.housekeeping.run)
        self.background("last uses", self.last_uses.run)
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.end_background()
        await self.bus.close()
        await self.hints.stop()
        await self.direct.close()
        await self.engine.dispose()

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` as long as the service runs; if it fails, log why and start it anew after a second."""
        self._tasks.append(asyncio.create_task(self._for_ever(name, work), name=name))

    async def end_background(self) -> None:
        """For a service whose background work uses what it closes before this core."""
        self.stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def not_ready(self) -> str | None:
        try:
            async with asyncio.timeout(2), self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception as error:
            return f"database: {type(error).__name__}"
        return None

    async def degraded(self) -> str | None:
        """What is away that we can do without for a while: changes are accepted, their events wait in the outbox."""
        try:
            async with asyncio.timeout(2):
                await self.bus.check()
        except BusUnavailable as error:
            return f"bus: {error}"
        except TimeoutError:
            return "bus: no answer"
        return None

    async def _for_ever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                return
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                log.warning("background.cancelled", task=name)  # not we, but something that it waited for
            except Exception:
                log.exception("background.failed", task=name)
            await asyncio.sleep(1)

    async def _public_keys(self) -> Mapping[str, dict[str, Any]]:
        async with self.sessions() as session:
            recent = SigningKey.retires_at > func.now() - timedelta(days=1)
            rows = await session.execute(select(SigningKey.kid, SigningKey.public_jwk).where(recent))
            return {row.kid: row.public_jwk for row in rows}


class _Server(uvicorn.Server):
    """Lays aside what it has started with, and says that it begins to stop before it waits for requests under way."""

    def __init__(self, config: uvicorn.Config, core: Core) -> None:
        super().__init__(config)
        self._core = core

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays. Else it would be gone through again and again for what could be freed, and every
        # request under way would wait for that: 0.1 to 0.2 s.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._core.stopping.set()
        await super().shutdown(sockets)


def _conceal() -> None:
    """Keep environment and memory, where the keys are, from other processes of the same user: replicas of the local
    platform are some. What is started from here is not concealed: an exec undoes it. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def run(service: str, create: Callable[[], tuple[ServiceSettings, FastAPI]]) -> None:
    """Run a service's process until SIGTERM or SIGINT; a wrong setting ends it with a clear message."""
    _conceal()
    try:
        settings, app = create()
    except ValidationError as error:
        for each in error.errors():
            name = "_".join(str(part) for part in each["loc"]).upper()
            sys.stderr.write(f"MOORAGE_{name}: {each['msg']}\n")
        raise SystemExit(64) from None
    configure_logging(service=service, level=settings.log_level)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever it trusts could put any address there. Where it matters, Envoy's word is read: shared.http.addresses.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        # Longer than Envoy keeps an idle connection to us: else it may send a request while we close, and that fails.
        timeout_keep_alive=75,
        loop="uvloop",
        http="httptools",
    )
    server = _Server(config, app.state.core)
    server.run()
    if not server.started:
        raise SystemExit(3)
