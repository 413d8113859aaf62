"""Errors as RFC 9457 problem documents. The only place that knows which error is which HTTP status."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from structlog.contextvars import get_contextvars

from shared import errors
from shared.database import is_disconnect
from shared.telemetry import get_logger

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUS: dict[type[errors.MoorageError], int] = {
    errors.ValidationFailed: 422,
    errors.InvalidToken: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.VersionConflict: 412,
    errors.QuotaExceeded: 403,
    errors.TooLarge: 413,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
}

_OF_STATUS = {  # what the framework itself answers
    400: ("bad_request", "The request is not valid"),
    404: ("not_found", "There is no such thing"),
    405: ("method_not_allowed", "The method is not allowed here"),
    406: ("not_acceptable", "No such representation"),
    413: ("too_large", "The body is too large"),
    415: ("unsupported_media_type", "The media type is not supported"),
}


class FieldError(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or query/…, path/…, header/…", examples=["/replicas"])
    message: str = Field(examples=["must be at least 1"])


class Problem(BaseModel):
    """An RFC 9457 problem document. Facts about the problem (`requested`, `used`, `limit` …) are further members."""

    type: str = Field(examples=["/docs/errors#not_found"])
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404])
    detail: str = Field(description="what happened and what to do")
    code: str = Field(description="stable; one section each in docs/errors.md", examples=["not_found"])
    request_id: str | None = None
    errors: list[FieldError] | None = Field(default=None, description="which fields are wrong")


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    facts: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
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
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def render(error: errors.MoorageError) -> JSONResponse:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    facts = dict(error.facts)
    headers: dict[str, str] = {}
    if isinstance(error, errors.ValidationFailed):
        facts["errors"] = [{"pointer": p.pointer, "message": p.message} for p in error.problems]
    if isinstance(error, errors.InvalidToken):
        headers["WWW-Authenticate"] = 'Bearer realm="moorage"'
    if isinstance(error, errors.TooManyRequests | errors.Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return problem(status, error.code, error.title, error.detail, facts=facts, headers=headers)


def install(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem document."""

    @app.exception_handler(errors.MoorageError)
    async def known(_: Request, error: errors.MoorageError) -> JSONResponse:
        return render(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return render(errors.ValidationFailed([_field(dict(each)) for each in error.errors()]))

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> JSONResponse:
        code, title = _OF_STATUS.get(error.status_code, ("bad_request", "The request is not valid"))
        return problem(error.status_code, code, title, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(DBAPIError)
    async def database(_: Request, error: DBAPIError) -> JSONResponse:
        if is_disconnect(error):
            return away()
        log.exception("request.database_error", exc_info=error)
        return internal()

    for kind in (ConnectionError, TimeoutError):
        app.add_exception_handler(kind, lambda *_: away())


def away() -> JSONResponse:
    return render(errors.Unavailable("The database is away; nothing was changed as far as we know. Try again."))


def internal() -> JSONResponse:
    return problem(
        500, "internal", "We made a mistake", "It is in our log under this request_id; nothing of yours was wrong."
    )


def _field(error: dict[str, Any]) -> errors.FieldProblem:
    where, *path = (str(part) for part in error["loc"])
    if where == "body":
        pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)
    else:
        pointer = "/".join([where, *path])
    message = str(error["msg"]).removeprefix("Value error, ")
    return errors.FieldProblem(pointer, "is not a known field" if error["type"] == "extra_forbidden" else message)
