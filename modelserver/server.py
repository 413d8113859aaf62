"""The life of a replica: listen, load, serve, drain, end.

The port listens before the model loads, so that probes are answered all along.  SIGTERM while loading ends the process
at once; later it drains: `/readyz` says no, requests are still taken and answered with `connection: close`, and when
none has been in flight for a moment the process ends.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from types import FrameType

import uvicorn

from modelserver import loader
from modelserver.app import App
from modelserver.model import Model
from modelserver.pool import Pool
from modelserver.settings import Settings
from modelserver.termination import AddressUnavailable, Exit, Failure, report

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.25
"""A drain ends after this long without a request: what was on its way when the routes changed still arrives."""

KEEP_ALIVE_SECONDS = 3700
"""Longer than Envoy keeps an idle connection (one hour): we never close one that it is about to use."""


def run(settings: Settings) -> Exit:
    """Serve until told to end."""
    listener = listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(_serve(settings, listener))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop  # the only place that knows which loop it is

    return uvloop.new_event_loop()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; ours rather than uvicorn's, so that a taken port gets a clear message."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AddressUnavailable(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            advice="Choose another port, or end the process that holds it.",
        ) from None
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> Exit:
    pool = Pool(threads=settings.threads, queue_limit=settings.queue_limit, batch_limit=settings.batch_limit)
    app = App(settings, pool)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    server = Server(config, settings=settings, app=app, pool=pool)
    await server.serve(sockets=[listener])
    return server.exit


class Server(uvicorn.Server):
    """uvicorn's server with our signals: it stops when the drain says so."""

    def __init__(self, config: uvicorn.Config, *, settings: Settings, app: App, pool: Pool) -> None:
        super().__init__(config)
        self.exit = Exit.DONE
        self._settings = settings
        self._app = app
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then load."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("listening on %s port %d", *listener.getsockname()[:2])
        self._pool.start(self._load)

    def _load(self) -> Model | None:
        """In a worker thread."""
        started = self._loop.time()
        try:
            model = Model(loader.load(self._settings.model_path))
        except Failure as error:
            report(error)
            self._loop.call_soon_threadsafe(self._end, error.exit)
            return None
        gc.collect()
        gc.freeze()  # what a model's libraries leave behind is long-lived: no collection needs to walk it again
        self._loop.call_soon_threadsafe(self._loaded, self._loop.time() - started)
        return model

    def _loaded(self, seconds: float) -> None:
        self._app.loaded = True
        log.info(
            "model loaded name=%s version=%d threads=%d seconds=%.2f",
            self._settings.name,
            self._settings.version,
            self._settings.threads,
            seconds,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """SIGTERM or SIGINT: drain.  While loading, and on a second ^C, end at once."""
        if not self._app.loaded or (self._app.draining and sig == signal.SIGINT):
            os._exit(Exit.DONE)  # the loading thread cannot be stopped, and nobody waits for an answer
        self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        if self._draining is None:
            self._app.draining = True
            log.info("draining requests_in_flight=%d", self._app.metrics.in_flight)
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        step = 0.025
        quiet = 0.0
        metrics = self._app.metrics
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                while quiet < QUIET_SECONDS:
                    await asyncio.sleep(step)
                    quiet = 0.0 if metrics.in_flight else quiet + step
        if metrics.in_flight:
            log.error("drain incomplete requests_abandoned=%d", metrics.in_flight)
            self._end(Exit.DRAIN_INCOMPLETE)
        else:
            self._end(Exit.DONE)

    def _end(self, code: Exit) -> None:
        self.exit = code
        if code is Exit.DONE:
            self._pool.stop()
        self.should_exit = True
