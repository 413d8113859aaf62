"""A proxy before an API server that misbehaves as told: cuts, refuses, hangs. It speaks HTTP without TLS.

async with Faults(plane) as proxy:
    proxy.cut_watches_after = 1.0
    proxy.refuse = lambda request: status(500, "boom") if request.method == "PATCH" else None
    Connection(kubeconfig=proxy.kubeconfig)
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.servers.kubernetes import ControlPlane

_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class Faults:
    """Who is who is decided by the token in the request, as without a proxy; `kubeconfig` is the administrator's."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._ssl = ssl.create_default_context(cafile=plane.authority)
        self.cut_watches_after: float | None = None
        """Seconds that a watch lives; its connection is reset then, in the middle of a line or not."""
        self.refuse: Callable[[web.BaseRequest], web.Response | None] = lambda request: None
        """What to answer instead of the API server."""
        self.requests = 0

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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        if (refusal := self.refuse(request)) is not None:
            return refusal
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self._plane.url("127.0.0.1") + request.raw_path
        watch = "watch" in request.query
        try:
            async with (
                asyncio.timeout(self.cut_watches_after if watch else None),
                self._client.request(request.method, url, headers=headers, data=await request.read()) as answer,
            ):
                return await self._pass_on(request, answer)
        except (aiohttp.ClientError, TimeoutError):
            return cut(request)

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


def status(code: int, message: str, *, reason: str = "", **headers: str) -> web.Response:
    """A refusal as the API server words it. Headers' names are written with _ for -."""
    body: dict[str, Any] = {"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=code, headers=named)
