"""One database transaction a request: committed before the answer leaves, rolled back by any error.

Here too, since they belong to that commit: `Idempotency-Key` (see `idempotency`), `dry_run=true` (roll back instead of
committing), the entry in the audit log, and waiting for the world to agree (`wait=…`, after the commit). A read has no
transaction: each of its statements sees what is committed by then, and nothing is held open between two of them.
"""

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.params import Form
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import MoorageError, UnsupportedMediaType, ValidationFailed
from shared.http import records
from shared.http.auth import Caller, needs_caller
from shared.http.bodies import BoundedRequest
from shared.http.idempotency import KEPT_HEADERS, Once
from shared.telemetry import get_logger

log = get_logger(__name__)

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# As pydantic reads a boolean, so that the route and its handler never disagree.
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


class Unit:
    """The request's unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.audited = True  # a POST that changes nothing that is worth a line says False
        self.stands = False  # True: it is committed whatever `dry_run` says
        self._after: Callable[[], Awaitable[Any]] | None = None

    def after_commit(self, wait: Callable[[], Awaitable[Any]]) -> None:
        """Once committed, run `wait`; what it returns (JSON-ready, or None) replaces the answer's body, if it has one.

        The change stands whatever `wait` does: if it fails, the answer is the handler's.
        """
        self._after = wait

    async def settle(self, response: Response) -> Response:
        if self._after is None:
            return response
        try:
            content = await self._after()
        except Exception:
            log.exception("request.wait_failed")
            return response
        if content is None or response.status_code == HTTPStatus.NO_CONTENT:
            return response
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        return JSONResponse(content, status_code=response.status_code, headers=headers)


class TransactionRoute(APIRoute):
    """The route class of every router of ours."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        declares_body = self.body_field is not None
        takes_json = self.body_field is not None and not isinstance(self.body_field.field_info, Form)
        has_caller = needs_caller(self.dependant)

        async def handled(request: BoundedRequest) -> Response:
            response = await handle(request)
            caller: Caller | None = getattr(request.state, "caller", None)
            if caller and not caller.has_asked and response.status_code < 400:
                raise RuntimeError(f"{self.name} does not ask whether its caller may")
            return response

        async def recorded(plain: Request) -> Response:
            request = BoundedRequest(plain.scope, plain.receive)
            request.state.action = self.name
            try:
                return await in_transaction(request)
            except MoorageError as error:
                if error.denial:
                    await records.denied(request, error, action=self.name)
                raise

        async def in_transaction(request: BoundedRequest) -> Response:
            streamed = request.has_body and not declares_body
            if takes_json and request.has_body and not request.is_json:
                raise UnsupportedMediaType("Send the body as `Content-Type: application/json`.")
            if not streamed:
                await request.body()  # before there is a connection that a slow client could hold
            core = request.app.state.core
            if request.method not in _CHANGES:
                async with core.reading() as session:
                    request.state.unit = Unit(session)
                    return await handled(request)
            dry_run = _is_dry_run(request)
            async with core.sessions() as session:
                unit = request.state.unit = Unit(session)
                keyed = has_caller and not dry_run and not streamed
                once = await Once.begin(request, session) if keyed else None
                if once and once.answer:
                    return once.answer
                response = await handled(request)
                if response.status_code >= 400:
                    return response
                if dry_run and not unit.stands:
                    await session.flush()  # what the database refuses, it refuses now too
                    response.headers["X-Dry-Run"] = "true"
                    return response
                if once:
                    await once.remember(response)
                if unit.audited:
                    await records.done(request, session, response, action=self.name)
                await session.commit()
                settled = await unit.settle(response)
                if once and settled is not response:
                    await _remember_anew(once, settled, session)
                return settled

        return recorded


async def _remember_anew(once: Once, settled: Response, session: AsyncSession) -> None:
    """The answer that the client gets, in the place of the one that was kept with the change."""
    try:
        await once.remember(settled)
        await session.commit()
    except Exception:
        log.exception("request.answer_not_kept")  # the change stands, and so does its first answer


def _is_dry_run(request: Request) -> bool:
    value = request.query_params.get("dry_run", "false").lower()
    if value not in _TRUE | _FALSE:
        raise ValidationFailed.of("query/dry_run", "must be true or false")
    return value in _TRUE


async def _current_unit(request: Request) -> Unit:  # not `def`: FastAPI would run it in a thread
    unit: Unit = request.state.unit
    return unit


CurrentUnit = Annotated[Unit, Depends(_current_unit)]
