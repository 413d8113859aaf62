"""Requests to the API server: bounded, measured, tried again while they fail in passing.

All our requests may be repeated. No connection, 429 (for as long as the server asks), 5xx and a conflict are met with
growing pauses until `patience` is over; then, or at once for what will not pass, the answer is a PlatformError in the
server's words. Streams (watches, logs) last, so they are neither counted into the bound nor tried again here.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from prometheus_client import Counter, Histogram

from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import ApiError, Invalid, Unreachable, read_refusal
from services.deployer.platforms.kubernetes.kinds import Kind

REQUESTS = Counter("moorage_kubernetes_requests_total", "Requests to the API server", ["verb", "kind", "code"])
SECONDS = Histogram("moorage_kubernetes_request_seconds", "Time until the API server had answered", ["verb", "kind"])

_PASSING = frozenset({429, 500, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """`verb` is RBAC's, for the metrics."""

    verb: str
    kind: Kind
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


class Requests:
    """`timeout` is that of one attempt; all times are in seconds."""

    def __init__(self, connection: Connection, *, concurrency: int, timeout: float, patience: float) -> None:
        self._connection = connection
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._patience = patience

    async def call(self, request: Request) -> Any:
        """The answer to the first attempt that did not fail in passing."""
        deadline = time.monotonic() + self._patience
        for pause in pauses(_FIRST_PAUSE, _LONGEST_PAUSE):
            try:
                return await self.attempt(request)
            except Unreachable:
                after = pause
                if time.monotonic() + after > deadline:
                    raise
            except ApiError as error:
                after = pause + (error.after or 0.0)
                if not _passes(error) or time.monotonic() + after > deadline:
                    raise
            await asyncio.sleep(after)
        raise AssertionError  # pauses never end

    async def attempt(self, request: Request) -> Any:
        """The answer to just one."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with self._slots:
            with self._translated(), SECONDS.labels(request.verb, request.kind.plural).time():
                async with self._sent(request, timeout) as answer:
                    body = await answer.read()
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unreachable(f"the API server's answer is no JSON: {body[:100]!r}") from error

    @asynccontextmanager
    async def lines(self, request: Request, *, silence: float | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on and on, but ends when nothing has come for `silence` seconds."""
        timeout = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=silence)
        with self._translated():
            async with self._sent(request, timeout) as answer, aclosing(_split(answer)) as lines:
                yield lines

    @asynccontextmanager
    async def _sent(self, request: Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:  # noqa: ASYNC109 - aiohttp's own
        code = "none"
        data = None if request.body is None else orjson.dumps(request.body)
        headers = {} if data is None else {"Content-Type": request.content_type}
        try:
            answer = await self._connection.request(
                request.method, request.path, params=request.params, headers=headers, data=data, timeout=timeout
            )
            code = str(answer.status)
        finally:
            REQUESTS.labels(request.verb, request.kind.plural, code).inc()
        async with answer:
            if answer.status >= 300:
                raise read_refusal(await answer.read(), code=answer.status, after=_retry_after(answer))
            yield answer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = "no answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
            raise Unreachable(f"the API server at {self._connection.host} cannot be reached: {text}") from error


def pauses(first: float, longest: float) -> Iterator[float]:
    """Ever longer, each a little different, so that those who failed together do not come back together."""
    for attempt in itertools.count():
        yield min(longest, first * 2 ** min(attempt, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


async def _split(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Lines of any length (an object may have a megabyte), empty ones left out."""
    parts: list[bytes] = []
    async for chunk in answer.content.iter_any():
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            if line := b"".join(parts):
                yield line
            parts = [other]
    if line := b"".join(parts):
        yield line


def _passes(error: ApiError) -> bool:
    if error.code == 409:
        # Somebody wrote in between. Other conflicts stay: a name that is taken, a field that has another manager.
        return "object has been modified" in str(error)
    if error.code == 403:
        return "not yet ready to handle request" in str(error)  # admission, of a server that has only just started
    return error.code in _PASSING and not isinstance(error, Invalid)


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
