"""A proxy before an API server that misbehaves as told: cuts, refuses, loses, is slow. It speaks HTTP without TLS.

async with Faults(plane) as proxy:
    proxy.cut_watches_after = 1.0
    proxy.refuse = some_of(0.1, seed=7)
    Connection(kubeconfig=proxy.kubeconfig_for("moorage/deployer"))
"""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.servers.kubernetes import ControlPlane

Refusal = Callable[[web.BaseRequest], web.Response | None]

_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class Faults:
    """Who is who is decided by the token in the request, as without a proxy; `kubeconfig` is the administrator's."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._ssl = ssl.create_default_context(cafile=plane.authority)
        self.cut_watches_after: float | None = None
        """Seconds that a watch lives; its connection is reset then, in the middle of a line or not."""
        self.refuse: Refusal = lambda request: None
        """What to answer instead of the API server, which never sees the request."""
        self.lose: Callable[[web.BaseRequest], bool] = lambda request: False
        """Whether to reset the connection once the API server has done what was asked."""
        self.delay = 0.0
        """Seconds before each request is passed on."""
        self.requests = 0
        self._watches: set[asyncio.Timeout] = set()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._client = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        token = json.loads(self._plane.kubeconfig.read_text())["users"][0]["user"]["token"]
        self.kubeconfig = self._plane.admin.write_kubeconfig("faults", token, server=self.url)
        return self

    def kubeconfig_for(self, service_account: str) -> Path:
        """As `Admin.kubeconfig_for`."""
        return self._plane.admin.kubeconfig_for(service_account, server=self.url)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()

    def cut_watches(self) -> None:
        """All there are now."""
        for watch in self._watches:
            watch.reschedule(asyncio.get_running_loop().time())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        await asyncio.sleep(self.delay)
        if (refusal := self.refuse(request)) is not None:
            return refusal
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self._plane.url("127.0.0.1") + request.raw_path
        try:
            async with (
                self._life_of(request),
                self._client.request(request.method, url, headers=headers, data=await request.read()) as answer,
            ):
                if self.lose(request):
                    await answer.read()
                    return cut(request)
                return await self._pass_on(request, answer)
        except (aiohttp.ClientError, TimeoutError):
            return cut(request)

    @contextlib.asynccontextmanager
    async def _life_of(self, request: web.BaseRequest) -> AsyncIterator[None]:
        if "watch" not in request.query:
            yield
            return
        async with asyncio.timeout(self.cut_watches_after) as watch:
            self._watches.add(watch)
            try:
                yield
            finally:
                self._watches.discard(watch)

    async def _pass_on(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        passed = web.StreamResponse(status=answer.status, headers=headers)
        await passed.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client has seen enough
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
        return passed


def cut(request: web.BaseRequest) -> web.Response:
    """Reset the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def some_of(share: float, *, seed: int) -> Refusal:
    """Refuse this share of all requests, in the ways in which an API server under load does."""
    chance = random.Random(seed)

    def refuse(request: web.BaseRequest) -> web.Response | None:
        if chance.random() >= share:
            return None
        refusals = [
            status(429, "too many requests", reason="TooManyRequests", Retry_After="1"),
            status(500, "etcdserver: request timed out", reason="InternalError"),
        ]
        if request.method in ("PATCH", "PUT"):
            refusals.append(status(409, "the object has been modified", reason="Conflict"))
        return chance.choice(refusals)

    return refuse


def status(code: int, message: str, *, reason: str = "", **headers: str) -> web.Response:
    """A refusal as the API server words it. Headers' names are written with _ for -."""
    body: dict[str, Any] = {"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=code, headers=named)
