"""`/audit`: who did what, and who was denied what."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime

from services.gateway.audit import queries
from services.gateway.audit.schemas import EntryView
from services.gateway.audit.views import view
from services.gateway.audit.watch import follow, parse_position
from shared.http import CurrentCaller, CurrentUnit, DnsLabel, Page, Paging, TransactionRoute
from shared.http.streams import EVENTS, LastEventId, event_stream, wants_events

router = APIRouter(route_class=TransactionRoute, tags=["audit"])

_Name = Annotated[str, Query(max_length=128, pattern=r"^[^\x00]*$")]


@router.get(
    "/audit",
    summary="The audit log",
    response_model=Page[EntryView],
    responses={200: {"content": EVENTS}},
)
async def list_audit_entries(
    *,
    request: Request,
    caller: CurrentCaller,
    unit: CurrentUnit,
    paging: Paging,
    user: Annotated[list[_Name] | None, Query(description="who did it, or was denied it", max_length=50)] = None,
    group: Annotated[list[DnsLabel] | None, Query(description="in these groups", max_length=50)] = None,
    action: Annotated[
        list[_Name] | None, Query(description="operation ids", max_length=50, examples=[["update_user"]])
    ] = None,
    outcome: Annotated[Literal["done", "denied"] | None, Query(description="only what was done, or denied")] = None,
    request_id: Annotated[_Name | None, Query(description="what one request did")] = None,
    start: Annotated[AwareDatetime | None, Query(alias="from", description="at this time or later")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to", description="before this time")] = None,
    last_event_id: LastEventId = None,
) -> Page[EntryView] | Response:
    """Every change made through the API, in the transaction of that change, and every denied attempt; the newest first.
    Without a group, an entry is for platform admins and for whoever did it.

    As `text/event-stream` it is followed: an event `entry` each, in the order of the chain, about a second behind; the
    id is the position, and `Last-Event-ID: 0` gives all from the beginning."""
    where = (
        queries.visible(caller)
        & queries.Filter(
            users=user or (),
            groups=group or (),
            actions=action or (),
            outcome=outcome,
            request_id=request_id,
            start=start,
            end=end,
        ).condition()
    )
    core = request.app.state.core
    if wants_events(request):
        return event_stream(follow(core, where, after=parse_position(last_event_id)), stopping=core.stopping)
    rows = await queries.page_of_entries(unit.session, where, after=paging.start(datetime, int), limit=paging.limit + 1)
    items, cursor = paging.page(rows, key=lambda row: (row.at, row.id))
    total = await queries.count_entries(unit.session, where) if paging.count else None
    return Page(items=[view(row) for row in items], next=cursor, total=total)
