"""What the API server may refuse, in its own words, so that "exceeded quota" reaches whoever asked for too much.

PlatformError
├── Unreachable      no connection, no answer in time, or one that makes no sense
└── ApiError         any other answer than success: `code`, `reason`
    ├── NotFound     404; NamespaceNotFound when it is the namespace that is missing
    ├── Conflict     409
    ├── Gone         410, and a resourceVersion that the server does not know (any more, or yet)
    ├── Forbidden    403: RBAC, admission, quota
    └── Invalid      400 and 422, and what the server takes for its own fault: the object or the request is wrong
"""

from collections.abc import Mapping
from typing import Any

import orjson

from services.deployer.platforms.platform import PlatformError


class Unreachable(PlatformError):
    """There was no answer, or none that can be understood."""


class ApiError(PlatformError):
    """The server's refusal. `after`: it asks us to stay away for so many seconds."""

    def __init__(self, message: str, *, code: int, reason: str = "", after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.after = after


class NotFound(ApiError):
    pass


class NamespaceNotFound(NotFound):
    pass


class Conflict(ApiError):
    pass


class Gone(ApiError):
    pass


class Forbidden(ApiError):
    pass


class Invalid(ApiError):
    pass


_NO_PATCH = "failed to create typed patch object"
"""Begins the 500 that an object gets which is applied and has, say, the same mount twice."""

_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def refusal(status: Mapping[str, Any], *, code: int = 0, after: float | None = None) -> ApiError:
    """The error that a `Status` object stands for; `code` of the HTTP answer, where there is one."""
    code = int(status.get("code") or code or 500)
    reason = str(status.get("reason") or "")
    message = str(status.get("message") or f"the API server answered {code}")
    details = status.get("details") or {}
    causes = {cause.get("reason") for cause in details.get("causes") or ()}
    kind = _BY_CODE.get(code, ApiError)
    if reason in ("Expired", "Gone") or "ResourceVersionTooLarge" in causes:
        kind = Gone
    elif kind is NotFound and details.get("kind") == "namespaces":
        kind = NamespaceNotFound
    elif kind is ApiError and message.startswith(_NO_PATCH):
        kind = Invalid
    return kind(message, code=code, reason=reason, after=after)


def read_refusal(body: bytes, *, code: int, after: float | None = None) -> ApiError:
    """Likewise from an answer's body, which may come from a proxy that speaks no JSON."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        text = body[:500].decode(errors="replace").strip()
        status = {"message": f"the API server answered {code}" + (f": {text}" if text else "")}
    return refusal(status, code=code, after=after)
