"""The ASGI application: paths, bodies and states; what the model answers comes from the pool.

Raw ASGI because a framework would cost more than everything else here together.  TDInsight's protocol is the only one
so far; another one is another handler in `_routes`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from modelserver import openapi
from modelserver.answers import Answer, failure, success
from modelserver.metrics import Metrics
from modelserver.pool import Pool
from modelserver.settings import Settings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIENT_GONE = 499
"""What nginx counts for a client that left before its answer; never sent."""

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_CLOSE = (b"connection", b"close")
_RETRY = (b"retry-after", b"1")


class App:
    """One replica's HTTP surface.  The server moves it from loading to ready to draining."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.loaded = False
        self.draining = False
        self.metrics = Metrics()
        self._pool = pool
        self._body_limit = settings.body_limit
        self._names = settings.names
        self._versions = settings.versions
        self._openapi = orjson.dumps(
            openapi.document(names=self._names, versions=self._versions, body_limit=self._body_limit)
        )
        # Every path that is served is known by now, so a request costs one look-up.
        self._predict_paths = frozenset(
            ["/predict"]
            + [f"/predict/{name}" for name in self._names]
            + [f"/predict/{name}/{version}" for name in self._names for version in self._versions]
        )
        self._pages: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: success("alive"),
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
            "/openapi.json": lambda: Answer(200, self._openapi),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path, method = scope["path"], scope["method"]
        if path in self._predict_paths:
            if method == "POST":
                await self._predict(scope, receive, send)
            else:
                await self._send(send, _not_allowed(method, path, allow="POST"))
        elif (page := self._pages.get(path)) is not None:
            if method in ("GET", "HEAD"):
                await self._send(send, page(), _TEXT if path == "/metrics" else _JSON)
            else:
                await self._send(send, _not_allowed(method, path, allow="GET, HEAD"))
        else:
            await self._send(send, self._not_found(path))

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics = self.metrics
        started = time.perf_counter()
        metrics.in_flight += 1
        code = CLIENT_GONE
        try:
            answer = await self._answer(scope, receive)
            if answer is not None:
                await self._send(send, answer)
                code = answer.status
        finally:
            metrics.in_flight -= 1
            metrics.observe(code, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """The model's answer, or why there is none; None if the client has left."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body") or message["type"] == "http.disconnect" or len(body) > self._body_limit:
            rest = await self._read_on(message, receive)
            if not isinstance(rest, bytes):
                return rest
            body = rest
        if not self.loaded:
            return failure(503, "the model is still loading; see /readyz", _RETRY)
        try:
            return await self._pool.submit(body, scope["headers"])
        except asyncio.CancelledError:  # the drain has taken too long; only the process's end cancels
            return failure(503, "this replica had to end before the model answered; send the request again", _RETRY)

    async def _read_on(self, message: Message, receive: Receive) -> bytes | Answer | None:
        """The whole body that begins with `message`."""
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size <= self._body_limit:
                chunks.append(chunk)
            more = message.get("more_body", False)
            # Somewhat more than the limit is read and thrown away: a client that is still writing when the connection
            # closes would see a reset instead of the answer.
            if size > self._body_limit and (not more or size > 2 * self._body_limit + (1 << 20)):
                return failure(413, f"the body is larger than {self._body_limit} bytes; send fewer rows", _CLOSE)
            if not more:
                return b"".join(chunks)
            message = await receive()

    async def _send(self, send: Send, answer: Answer, content_type: tuple[bytes, bytes] = _JSON) -> None:
        headers = [content_type, (b"content-length", b"%d" % len(answer.body)), *answer.headers]
        if self.draining:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _readyz(self) -> Answer:
        if self.draining:
            return failure(503, "draining: this replica is about to end")
        if not self.loaded:
            return failure(503, "the model is still loading", _RETRY)
        return success("ready")

    def _metrics_page(self) -> Answer:
        ready = self.loaded and not self.draining
        return Answer(200, self.metrics.render(ready=ready, waiting=self._pool.waiting))

    def _not_found(self, path: str) -> Answer:
        served = f"/predict/{self._names[-1]}/{self._versions[-1]}"
        if path.startswith("/predict/"):
            names = " or ".join(map(repr, self._names))
            versions = " or ".join(map(str, self._versions))
            return failure(404, f"this replica serves model {names} in version {versions}; call {served}")
        return failure(404, f"there is nothing at this path; the model answers at {served}")


def _not_allowed(method: str, path: str, *, allow: str) -> Answer:
    message = f"{method} is not possible on {path}; use {allow}"
    return failure(405, message, (b"allow", allow.encode()))
