"""Errors as RFC 9457 problem documents. The only place that knows which error is which HTTP status."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from structlog.contextvars import get_contextvars

from shared import errors
from shared.database import is_disconnect
from shared.http.invalid import field_problems
from shared.http.refusals import translate

MEDIA_TYPE = "application/problem+json"

_STATUS: dict[type[errors.MoorageError], int] = {
    errors.BadRequest: 400,
    errors.ValidationFailed: 422,
    errors.InvalidToken: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.VersionConflict: 412,
    errors.QuotaExceeded: 403,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.RangeNotSatisfiable: 416,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
}

_OF_STATUS = {  # what the framework itself answers
    400: ("bad_request", "The request is not valid"),
    404: ("not_found", "There is no such thing"),
    405: ("method_not_allowed", "The method is not allowed here"),
    406: ("not_acceptable", "No such representation"),
    413: ("too_large", "The body is too large"),
}


class ProblemResponse(JSONResponse):
    """Renders whatever facts an error carries; a rendering that fails would hide the error."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # A lone surrogate came in as JSON and cannot go out as UTF-8.
        return json.dumps(content, ensure_ascii=False, default=_plain).encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


class FieldError(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or query/…, path/…, header/…", examples=["/replicas"])
    message: str = Field(description="what is wrong about it", examples=["must be at least 1"])


class Problem(BaseModel):
    """An RFC 9457 problem document. Facts about the problem (`requested`, `used`, `limit` …) are further members."""

    type: str = Field(description="where the code is explained", examples=["/docs/errors#not_found"])
    title: str = Field(description="the code in words", examples=["There is no such thing"])
    status: int = Field(description="of the answer", examples=[404])
    detail: str = Field(
        description="what happened and what to do", examples=["There is no group risk that you may see."]
    )
    code: str = Field(description="stable; each has its section in docs/errors.md", examples=["not_found"])
    request_id: str | None = Field(
        default=None, description="the answer's `X-Request-Id`", examples=["0f8a5c3e9d7b4f6a8c1e2d3b4a5f6c7d"]
    )
    errors: list[FieldError] | None = Field(default=None, description="which fields are wrong")


def raises(*kinds: type[errors.MoorageError], document: type[Problem] = Problem) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`, or some of them: the errors that are its own. What it has with others is added later.

    Not by a `model`, which FastAPI would describe as application/json: `create_app` adds the schema of `document`.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        body = {"schema": {"$ref": f"#/components/schemas/{document.__name__}"}, "examples": {}}
        answer = found.setdefault(status_of(kind), {"description": kind.title, "content": {MEDIA_TYPE: body}})
        answer["content"][MEDIA_TYPE]["examples"][kind.code] = {"$ref": f"#/components/examples/{kind.code}"}
    return found


def schemas(kinds: Sequence[type[Problem]]) -> dict[str, Any]:
    """What `documented` refers to, for the components of an OpenAPI document."""
    _, definitions = models_json_schema(
        [(kind, "serialization") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = definitions["$defs"]
    return found


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    facts: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> ProblemResponse:
    """`facts` never replace a standard member."""
    content = {
        **(facts or {}),
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": get_contextvars().get("request_id"),
    }
    return ProblemResponse(content, status_code=status, headers=headers)


def status_of(kind: type[errors.MoorageError]) -> int:
    return next(_STATUS[each] for each in kind.__mro__ if each in _STATUS)


def render(error: errors.MoorageError) -> ProblemResponse:
    status = status_of(type(error))
    facts = dict(error.facts)
    headers: dict[str, str] = {}
    if isinstance(error, errors.ValidationFailed):
        facts["errors"] = [{"pointer": p.pointer, "message": p.message} for p in error.problems]
    if isinstance(error, errors.InvalidToken):
        headers["WWW-Authenticate"] = f'{error.scheme} realm="moorage"'
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, errors.TooManyRequests | errors.Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return problem(status, error.code, error.title, error.detail, facts=facts, headers=headers)


def install(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem document."""

    @app.exception_handler(errors.MoorageError)
    async def known(_: Request, error: errors.MoorageError) -> ProblemResponse:
        return render(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> ProblemResponse:
        return render(errors.ValidationFailed(field_problems(error.errors(), error.body)))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> ProblemResponse:
        code, title = _OF_STATUS.get(error.status_code, ("bad_request", "The request is not valid"))
        detail, headers = str(error.detail), dict(error.headers or {})
        if error.status_code == 404:
            detail = "The API has no such path. Its description is at /openapi.json."
        elif error.status_code == 405:
            headers["Allow"] = _methods_at(request) or headers["Allow"]
            detail = f"This path takes {headers['Allow']}."
        return problem(error.status_code, code, title, detail, headers=headers)

    @app.exception_handler(DBAPIError)
    async def database(_: Request, error: DBAPIError) -> ProblemResponse:
        if is_disconnect(error):
            return away()
        refused = translate(error)
        return render(refused) if refused else internal()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> ProblemResponse:
        return problem(400, "bad_request", "The request is not valid", "The connection ended before the body did.")

    async def driver(_: Request, error: Exception) -> ProblemResponse:
        if is_disconnect(error):
            return away()
        raise error

    for kind in (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        app.add_exception_handler(kind, driver)

    async def unreachable(_: Request, __: Exception) -> ProblemResponse:
        return away()

    for kind in (ConnectionError, TimeoutError, PoolTimeoutError):
        app.add_exception_handler(kind, unreachable)


def _methods_at(request: Request) -> str:
    """Of every route with this path: the framework names those of the first one only."""
    found = (methods for path, methods in request.app.state.paths if path.match(request.url.path))
    return ", ".join(sorted(set().union(*found)))


def away() -> ProblemResponse:
    return render(errors.Unavailable("The database is away; nothing was changed as far as we know. Try again."))


def internal() -> ProblemResponse:
    return problem(
        500, "internal", "We made a mistake", "It is in our log under this request_id; nothing of yours was wrong."
    )
