"""A server that answers each request with the next step of its script, for what a real API server does too seldom."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Step = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float


class Scripted:
    """`then` answers when the script is over."""

    def __init__(self, folder: Path, *script: Step, then: Step | None = None) -> None:
        self._folder = folder
        self.script = deque(script)
        self.then = then or answer(500, "the script is over")
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._at_once = 0

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.kubeconfig = self._folder / "kubeconfig"
        self.trust("first")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def trust(self, token: str) -> None:
        """Write the client's configuration with this token."""
        document = {
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        self.kubeconfig.write_text(json.dumps(document))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers, query = dict(request.headers), dict(request.query)
        self.seen.append(Seen(request.method, request.path, query, headers, body, time.monotonic()))
        step = self.script.popleft() if self.script else self.then
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await step(request)
        finally:
            self._at_once -= 1


def answer(code: int, message: str = "", *, reason: str = "", retry_after: int | None = None) -> Step:
    """A refusal in the API server's form."""
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    async def step(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(body, status=code, headers=headers)

    return step


def text(body: str, code: int = 200) -> Step:
    async def step(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=body, status=code)

    return step


def found(body: Any) -> Step:
    return text(json.dumps(body))


def listed(*items: Any, version: str, more: str = "") -> Step:
    return found({"metadata": {"resourceVersion": version, "continue": more}, "items": list(items)})


def stream(*chunks: bytes, then: Step | None = None) -> Step:
    """Sends the chunks as they are; then it ends, or goes on as told (`cut`, `hang`)."""

    async def step(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.001)
        if then is not None:
            await then(request)
        await response.write_eof()
        return response

    return step


def events(*given: tuple[str, Any], then: Step | None = None) -> Step:
    """Of a watch."""
    return stream(*(json.dumps({"type": kind, "object": what}).encode() + b"\n" for kind, what in given), then=then)


async def cut(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError
