"""`wait=settled|enforced`: holds an answer until the world agrees with what was accepted, or the time is up."""

import asyncio
import contextlib
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query

from services.deployer.deployments import queries
from services.deployer.deployments.views import document, is_enforced
from shared.schema import Deployment, Route
from shared.service import Core

__all__ = ["Timeout", "Wait", "wait_until"]

Wait = Annotated[
    Literal["settled", "enforced"] | None,
    Query(
        description="answer once the deployment is Deployed, Failed, Stopped or deleted (`settled`), or the gateway has"
        " acknowledged the routes (`enforced`)"
    ),
]
Timeout = Annotated[
    float, Query(ge=0, le=3600, description="seconds to wait at most; the answer then shows how far it has come")
]

_POLL = 2.0
"""A hint may be lost."""


async def wait_until(core: Core, uid: UUID, *, wait: str, generation: int, timeout: float, public_url: str) -> Any:  # noqa: ASYNC109 - the API's word
    """The document once `generation` is settled or enforced, or as it stands when the time is up."""
    found = None
    async with core.hints.changes(str(uid)) as changed:
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            changed.clear()
            async with core.reading() as session:
                found = await queries.deployment_by_uid(session, uid)
            assert found is not None  # a row stays for good
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or core.stopping.is_set() or _agrees(*found, wait=wait, generation=generation):
                return document(*found, public_url=public_url)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _POLL))


def _agrees(row: Deployment, route: Route | None, *, wait: str, generation: int) -> bool:
    if row.deleted_at is not None:
        acknowledged = route is not None and route.generation >= row.generation
        return row.purged_at is not None or (wait == "enforced" and acknowledged)
    if wait == "enforced":
        return is_enforced(row, route)
    return row.observed_generation >= generation and row.phase in ("Deployed", "Failed", "Stopped")
