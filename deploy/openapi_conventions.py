"""What holds for every operation of ours and no service says by itself: headers of requests and of answers.

Left out: what Envoy and HTTP itself add (`Date`, `Content-Length` …).
"""

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_HEADERS: Json = {
    "ETag": {
        "description": "The resource's last change; send it as `If-Match` to change only what you have read.",
        "schema": {"type": "string", "examples": ['"3"']},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1, "examples": [5]},
    },
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "schema": {"type": "string", "examples": ['Bearer realm="moorage"']},
    },
    "X-Request-Id": {
        "description": "The request's `X-Request-Id`, or one that was made for it; the logs have it.",
        "schema": {"type": "string"},
    },
}

_PARAMETERS = re.compile(r"(/\{[^/]+\})+$")
"""What a resource's path has beyond that of its list."""

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "any text of your own; the same request with the same key is carried out once, and answered alike"
    " for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def describe(document: Json) -> None:
    """Add them to the document of all services."""
    components = document.setdefault("components", {})
    components["headers"] = _HEADERS
    components["parameters"] = {"IdempotencyKey": _IDEMPOTENCY_KEY}
    # Of those that can be changed, also the answer to the POST that makes one has its ETag.
    tagged = {path for path, item in document["paths"].items() if _is_of_one_resource(item)}
    made_here = {_PARAMETERS.sub("", path) for path in tagged}
    for path, item in document["paths"].items():
        of_one_resource = path in tagged
        for method, operation in _operations(item):
            if method == "post" and _takes_key(operation):
                operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/IdempotencyKey"})
            shows_etag = of_one_resource if method == "get" else method != "delete" and _takes_if_match(operation)
            if method == "post" and path in made_here:
                shows_etag = True
            for status, answer in operation["responses"].items():
                shown = shows_etag or "ETag" in answer.get("headers", {})
                names = list(_headers_of(status, answer, shows_etag=shown))
                answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _operations(item: Json) -> Iterator[tuple[str, Json]]:
    return ((method, operation) for method, operation in item.items() if isinstance(operation, dict))


def _is_of_one_resource(item: Json) -> bool:
    """One that has an ETag: it can be changed with If-Match."""
    return any(
        _takes_if_match(operation) for method, operation in _operations(item) if method in ("put", "patch", "delete")
    )


def _takes_if_match(operation: Json) -> bool:
    return any(parameter.get("name") == "If-Match" for parameter in operation.get("parameters", ()))


def _takes_key(operation: Json) -> bool:
    """Keys are a caller's, and an upload is idempotent by its content."""
    kinds = operation.get("requestBody", {}).get("content", {"application/json": {}})
    return bool(operation.get("security")) and "application/json" in kinds


def _headers_of(status: str, answer: Json, *, shows_etag: bool) -> Iterator[str]:
    yield "X-Request-Id"
    if shows_etag and status in ("200", "201") and "application/json" in answer.get("content", {}):
        yield "ETag"
    if status in ("429", "503"):
        yield "Retry-After"
    if status == "401":
        yield "WWW-Authenticate"
