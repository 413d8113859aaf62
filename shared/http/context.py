"""Around every request: its id, a log line, Prometheus metrics, headers that keep browsers from doing harm with the
answer, and a problem document for what nobody foresaw.

A request that ended before its answer began has the status 0.
"""

import re
import time
from uuid import uuid4

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from shared.http.problems import internal
from shared.telemetry import get_logger

log = get_logger(__name__)

REQUESTS = Counter(
    "moorage_http_requests_total", "Requests by route and status", ["service", "method", "route", "code"]
)
SECONDS = Histogram("moorage_http_request_seconds", "Time until the answer began", ["service", "method", "route"])

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_LONGEST_PATH = 1000  # characters of a path that are logged

_OURS = re.compile(r"[A-Za-z0-9._-]{1,128}")


# Of every answer that does not say otherwise itself: what we send is data, not a page, and is nobody else's business.
_PROTECTION = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
_ONLY_HTTPS = {b"strict-transport-security": b"max-age=31536000"}


class RequestContext:
    """Pure ASGI, since it also wraps streams. `https`: that is how clients reach the front door."""

    def __init__(self, app: ASGIApp, service: str, *, https: bool = False) -> None:
        self._app = app
        self._service = service
        self._protection = _PROTECTION | (_ONLY_HTTPS if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_id(scope)
        clear_contextvars()
        bind_contextvars(service=self._service, request_id=request_id)
        path = scope["path"][:_LONGEST_PATH]
        started = time.perf_counter()
        status = 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                said = {name for name, _ in headers}
                headers += [each for each in self._protection.items() if each[0] not in said]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        except Exception:
            log.exception("request.failed", method=scope["method"], path=path)
            if not status:
                await internal()(scope, receive, stamped)
        finally:
            seconds = time.perf_counter() - started
            # The route's pattern, never the path, and no made-up method: labels must not grow without bound.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            REQUESTS.labels(self._service, method, route, status).inc()
            SECONDS.labels(self._service, method, route).observe(seconds)
            if route not in ("/healthz", "/readyz", "/metrics"):
                log.info("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 2))

    @staticmethod
    def _request_id(scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _OURS.fullmatch(given := value.decode("latin-1")):
                return str(given)
        return uuid4().hex
