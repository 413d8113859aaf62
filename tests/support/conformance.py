"""Every answer that a service gives in any test is held against what its OpenAPI document says of the operation."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

import httpx
import jsonschema_rs
from fastapi import FastAPI

Json = dict[str, Any]

_HEADERS = ("ETag", "Idempotent-Replayed", "Location", "Retry-After", "WWW-Authenticate", "X-Dry-Run", "X-Request-Id")
_SOMETIMES = ("Idempotent-Replayed", "Upload-Length", "X-Dry-Run")
"""Those of them that depend on the request."""


def conforming(app: FastAPI) -> Callable[[httpx.Response], Awaitable[None]]:
    """A hook for a client of `app`. Asserts that it could have been known from the document."""
    title = app.title

    async def check(response: httpx.Response) -> None:
        document = _DOCUMENTS.get(title) or _DOCUMENTS.setdefault(title, type(app).openapi(app))
        method = response.request.method.lower()
        path = _path(title, method, response.request.url.path)
        if path is None:
            return
        operation = document["paths"][path][method]
        what = f"{operation['operationId']} answers {response.status_code}"
        status = str(response.status_code) if str(response.status_code) in operation["responses"] else "5XX"
        assert status != "5XX" or response.is_server_error, f"{what}, which is not described"
        said = _resolved(document, operation["responses"][status])
        silent = [name for name in _HEADERS if name in response.headers and name not in said["headers"]]
        absent = [name for name in said["headers"] if name not in response.headers and name not in _SOMETIMES]
        assert (silent, absent) == ([], []), f"{what} with other headers than are described"
        if method == "head" or response.status_code in (204, 302):
            return
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in said["content"], f"{what} as {kind}"
        if kind.endswith("json"):
            await response.aread()
            if response.is_error:
                assert response.json()["code"] in said["content"][kind]["examples"], f"{what}: {response.text}"
            errors = list(_validator(title, path, method, status, kind).iter_errors(response.json()))
            assert not errors, f"{what}: {errors[0]}"

    return check


_DOCUMENTS: dict[str, Json] = {}
"""By service: they are the same for each of its applications."""


@lru_cache(maxsize=1000)
def _path(title: str, method: str, path: str) -> str | None:
    """The path of the document; one that is spelled out goes before one with parameters."""
    for template, item in sorted(_DOCUMENTS[title]["paths"].items(), key=lambda each: each[0].count("{")):
        if method in item and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return str(template)
    return None


@lru_cache
def _validator(title: str, path: str, method: str, status: str, kind: str) -> jsonschema_rs.Draft202012Validator:
    document = _DOCUMENTS[title]
    answer = _resolved(document, document["paths"][path][method]["responses"][status])
    schema = {**answer["content"][kind]["schema"], "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def _resolved(document: Json, value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
