"""Parameters that the gateway's routes share. The dependencies are `async`, since FastAPI runs others in threads."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Request

from services.gateway.sign_ins.domain import Origin
from shared.http import DnsLabel, PageQuery
from shared.http.addresses import address_of

DeploymentId = Annotated[DnsLabel, Path(alias="id", description="of the deployment", examples=["churn"])]


async def _dry_run(
    dry_run: Annotated[bool, Query(description="answer what would come of it, and change nothing")] = False,
) -> bool:
    return dry_run


DryRun = Annotated[bool, Depends(_dry_run)]

OFFERS_DRY_RUN = Depends(_dry_run)
"""For routes whose answer is the same: the transaction is rolled back by shared.http."""


async def _origin(request: Request) -> Origin:
    agent = request.headers.get("user-agent", "").encode("ascii", "replace").decode()
    return Origin(address=address_of(request)[:64], user_agent=agent[:200])


CurrentOrigin = Annotated[Origin, Depends(_origin)]


@dataclass(frozen=True)
class Waiting:
    """How long an answer may wait for Envoy; None: not at all."""

    seconds: float | None


async def _waiting(
    wait: Annotated[
        Literal["enforced", "none"],
        Query(description="`enforced`: answer once every Envoy follows; `none`: as soon as it is committed"),
    ] = "enforced",
    seconds: Annotated[
        float,
        Query(alias="timeout", ge=0, le=60, description="seconds to wait; afterwards the answer says enforced=false"),
    ] = 5.0,
) -> Waiting:
    return Waiting(seconds if wait == "enforced" else None)


CurrentWaiting = Annotated[Waiting, Depends(_waiting)]


def name_after(paging: PageQuery) -> str | None:
    """The cursor of a list that is ordered by one name."""
    start = paging.start(str)
    return start[0] if start else None
