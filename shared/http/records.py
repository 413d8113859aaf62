"""What a request leaves in the audit log: one entry of the change that it made, or of what it was denied.

Denied is whatever a known caller may not do or see, a sign-in that failed, and a change without a good token; reads
without one are everyday (tokens expire) and stay in the log of the service. `dry_run` changes nothing, so only its
denial counts.
"""

from typing import Literal

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import get_contextvars

from shared import audit
from shared.errors import InvalidToken, MoorageError
from shared.http.addresses import address_of
from shared.http.problems import status_of
from shared.telemetry import get_logger

log = get_logger(__name__)

_READS = frozenset({"GET", "HEAD"})


async def done(request: Request, session: AsyncSession, response: Response, *, action: str) -> None:
    """Into the transaction of the change."""
    path = response.headers.get("location") or request.url.path
    await audit.append(
        session, _act(request, outcome="done", status=response.status_code, code=None, action=action, path=path)
    )


async def denied(request: Request, error: MoorageError, *, action: str) -> None:
    """In a transaction of its own, before the answer. The denial stands even if it cannot be recorded."""
    known = getattr(request.state, "caller", None) is not None
    if not known and isinstance(error, InvalidToken) and request.method in _READS:
        return
    act = _act(
        request, outcome="denied", status=status_of(type(error)), code=error.code, action=action, path=request.url.path
    )
    core = request.app.state.core
    if not core.denials.take(act.user if known and act.user else act.address):
        return
    try:
        async with core.sessions.begin() as session:
            await audit.append(session, act)
    except Exception:
        log.exception("audit.denial_not_recorded", action=action)


def _act(
    request: Request, *, outcome: Literal["done", "denied"], status: int, code: str | None, action: str, path: str
) -> audit.Act:
    caller = getattr(request.state, "caller", None)
    asked = caller.asked if caller else []
    return audit.Act(
        service=request.app.state.core.service,
        user=getattr(request.state, "user", None),
        group=asked[-1] if asked else request.path_params.get("group"),
        action=action,
        method=request.method,
        path=path,
        outcome=outcome,
        status=status,
        code=code,
        request_id=get_contextvars().get("request_id", ""),
        address=address_of(request),
        token=caller.token if caller else None,
    )
