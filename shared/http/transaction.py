"""One database transaction a request: committed before the answer leaves, rolled back by any error.

Here too, since they belong to that commit: `Idempotency-Key` (the answer is stored in the transaction of the change),
`dry_run=true` (roll back instead of committing) and waiting for the world to agree (`wait=…`, after the commit).
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import FieldProblem, IdempotencyMismatch, ValidationFailed
from shared.http.auth import authenticate
from shared.schema import IdempotentRequest
from shared.secrets import Vault

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_KEPT_HEADERS = ("etag", "location")
_PURPOSE = "idempotency"


class Unit:
    """The request's unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self._after: Callable[[], Awaitable[Any]] | None = None

    def after_commit(self, wait: Callable[[], Awaitable[Any]]) -> None:
        """Once committed, run `wait`; what it returns (JSON-ready) replaces the answer's body."""
        self._after = wait

    async def settle(self, response: Response) -> Response:
        if self._after is None:
            return response
        content = await self._after()
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return JSONResponse(content, status_code=response.status_code, headers=headers)


class TransactionRoute(APIRoute):
    """The route class of every router of ours."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def in_transaction(request: Request) -> Response:
            async with request.app.state.core.sessions() as session:
                unit = request.state.unit = Unit(session)
                if request.method not in _CHANGES:
                    return await handle(request)
                dry_run = request.query_params.get("dry_run", "").lower() in ("true", "1")
                once = None if dry_run else await _Once.begin(request, session)
                if once and once.answer:
                    return once.answer
                response = await handle(request)
                if response.status_code >= 400:
                    return response
                if dry_run:
                    response.headers["X-Dry-Run"] = "true"
                    return response
                if once:
                    await once.remember(response)
                await session.commit()
                return await unit.settle(response)

        return in_transaction


class _Once:
    """A request that carries an Idempotency-Key: its first answer is kept and given again."""

    def __init__(self, session: AsyncSession, vault: Vault, caller: str, key: str, answer: Response | None) -> None:
        self._session = session
        self._vault = vault
        self._caller = caller
        self._key = key
        self.answer = answer

    @classmethod
    async def begin(cls, request: Request, session: AsyncSession) -> "_Once | None":
        key = request.headers.get("idempotency-key")
        # An upload is idempotent by its content, and too long to be hashed before it is read.
        streamed = not request.headers.get("content-type", "application/json").startswith("application/json")
        if request.method != "POST" or key is None or streamed:
            return None
        if not 1 <= len(key) <= 255 or not key.isprintable():
            message = "must be 1 to 255 printable characters"
            raise ValidationFailed([FieldProblem("header/Idempotency-Key", message)])
        caller = (await authenticate(request)).user
        target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
        digest = hashlib.sha256(target + await request.body()).digest()
        statement = insert(IdempotentRequest).values(caller=caller, key=key, request_sha256=digest)
        # Waits for a transaction that is under way with the same key: two at once are one.
        await session.execute(statement.on_conflict_do_nothing())
        row = (
            await session.execute(
                select(IdempotentRequest).where(IdempotentRequest.caller == caller, IdempotentRequest.key == key)
            )
        ).scalar_one()
        if row.request_sha256 != digest:
            raise IdempotencyMismatch(
                "This Idempotency-Key was used with another request; use a new key for a new request."
            )
        vault: Vault = request.app.state.core.vault
        return cls(session, vault, caller, key, cls._stored(vault, row))

    @staticmethod
    def _stored(vault: Vault, row: IdempotentRequest) -> Response | None:
        if row.answer is None or row.status is None:
            return None
        kept = json.loads(vault.open(row.answer, purpose=_PURPOSE))
        return Response(
            kept["body"].encode(),
            status_code=row.status,
            media_type="application/json",
            headers={**kept["headers"], "Idempotent-Replayed": "true"},
        )

    async def remember(self, response: Response) -> None:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        kept = json.dumps({"body": bytes(response.body).decode(), "headers": headers}).encode()
        await self._session.execute(
            update(IdempotentRequest)
            .where(IdempotentRequest.caller == self._caller, IdempotentRequest.key == self._key)
            .values(status=response.status_code, answer=self._vault.seal(kept, purpose=_PURPOSE))
        )


def _current_unit(request: Request) -> Unit:
    unit: Unit = request.state.unit
    return unit


CurrentUnit = Annotated[Unit, Depends(_current_unit)]
