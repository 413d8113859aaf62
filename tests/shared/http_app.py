"""A service that does nothing, with our conventions: what the HTTP tests call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy import func, insert, select, text, tuple_

from shared import outbox
from shared.errors import QuotaExceeded
from shared.events import gateway
from shared.http import (
    Body,
    CurrentCaller,
    CurrentUnit,
    DnsLabel,
    IfMatch,
    Page,
    Paging,
    TransactionRoute,
    check_match,
    create_app,
    etag,
)
from shared.http.schemas import Text
from shared.permissions import ANYBODY, CALLERS, MANAGE, Rules, on_group
from shared.schema import InstanceType, User
from shared.service import Core
from shared.settings import ServiceSettings

router = APIRouter(route_class=TransactionRoute)


class Thing(Body):
    name: DnsLabel
    title: str = ""
    note: Text = ""
    extra: dict[str, Any] = Field(default_factory=dict)


@router.post("/things", status_code=201)
async def make(body: Thing, caller: CurrentCaller, unit: CurrentUnit, response: Response) -> dict[str, str]:
    unit.session.add(InstanceType(id=body.name, name=body.title, cpu=1, memory=1, node_selector=body.extra))
    await outbox.append(unit.session, gateway.USER_CHANGED, caller.user, user=caller.user)
    response.headers["ETag"] = etag(1)
    return {"name": body.name, "by": caller.user}


@router.post("/things/slow")
async def make_slowly(body: Thing, caller: CurrentCaller, unit: CurrentUnit) -> dict[str, str]:
    unit.session.add(InstanceType(id=body.name, name="", cpu=1, memory=1))
    await asyncio.sleep(0.2)
    return {"name": body.name}


@router.post("/things/waiting")
async def make_and_wait(
    body: Thing, caller: CurrentCaller, unit: CurrentUnit, fails: Annotated[bool, Query()] = False
) -> dict[str, str]:
    unit.session.add(InstanceType(id=body.name, name="", cpu=1, memory=1))

    async def settled() -> dict[str, str]:
        if fails:
            raise RuntimeError
        return {"state": "settled"}

    unit.after_commit(settled)
    return {"state": "committed"}


@router.get("/things")
async def page_of_things(paging: Paging, unit: CurrentUnit) -> Page[str]:
    statement = select(InstanceType).order_by(InstanceType.created_at, InstanceType.id).limit(paging.limit + 1)
    if after := paging.start(datetime, str):
        statement = statement.where(tuple_(InstanceType.created_at, InstanceType.id) > after)
    rows = (await unit.session.scalars(statement)).all()
    items, cursor = paging.page(rows, key=lambda row: (row.created_at, row.id))
    return Page(items=[row.id for row in items], next=cursor)


@router.get("/things/{name}")
async def look_up(name: str, unit: CurrentUnit, number: int = 1) -> dict[str, int]:
    statement = select(func.count()).where(InstanceType.id == name, InstanceType.version == number)
    return {"count": (await unit.session.execute(statement)).scalar_one()}


@router.patch("/things/{name}")
async def change(name: str, caller: CurrentCaller, if_match: IfMatch = None) -> dict[str, str]:
    check_match(if_match, 3)
    return {}


@router.delete("/things/{name}", status_code=204)
async def remove(name: str, caller: CurrentCaller, unit: CurrentUnit) -> None:
    await unit.session.execute(text("DELETE FROM instance_types WHERE id = :id"), {"id": name})


@router.post("/things/{name}/touch", status_code=204)
async def touch(name: str, caller: CurrentCaller, unit: CurrentUnit) -> None:
    await unit.session.execute(text("UPDATE instance_types SET version = version + 1 WHERE id = :id"), {"id": name})


@router.post("/uploads")
async def upload(request: Request, caller: CurrentCaller) -> dict[str, int]:
    return {"size": sum([len(part) async for part in request.stream()])}


@router.post("/open")
async def do_without_a_caller(unit: CurrentUnit) -> dict[str, str]:
    return {}


@router.post("/stream")
async def stream(caller: CurrentCaller) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    return StreamingResponse(parts())


@router.get("/late")
async def use_the_session_after_the_answer_began(unit: CurrentUnit) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        await unit.session.execute(select(1))

    return StreamingResponse(parts())


@router.post("/fail/{how}")
async def fail(how: str, unit: CurrentUnit) -> None:
    async def run(statement: str, **values: str) -> None:
        await unit.session.execute(text(statement), values)

    await unit.session.execute(insert(User).values(id="ghost", display_name="", admin=False, disabled=False, version=1))
    match how:
        case "mistake":
            raise RuntimeError("the password is swordfish")
        case "quota":
            raise QuotaExceeded("too much", requested=Decimal("0.5"), limit=Decimal(4), at=datetime(2026, 1, 1))  # noqa: DTZ001 - a naive time is the case
        case "check":
            secret = "sword" + "fish"
            await run(
                "INSERT INTO groups (id, name, version, deployment_enabled) VALUES ('NO', :name, 1, true)", name=secret
            )
        case "unique":
            await run("INSERT INTO users SELECT * FROM users WHERE id = 'ghost'")
        case "reference":
            await run("INSERT INTO members (group_id, user_id, permission) VALUES ('none', 'ghost', 'read')")
        case "too-slow":
            await run("SET LOCAL statement_timeout = 20")
            await run("SELECT pg_sleep(5)")
        case "terminated":
            await run("SELECT pg_terminate_backend(pg_backend_pid())")
        case "goodbye":
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
        case "surrogate":
            raise QuotaExceeded("half a pair: \ud800")


@router.get("/groups/{group}")
async def see(group: str, caller: CurrentCaller) -> dict[str, str]:
    caller.require(group, kind="group", name=group)
    return {"group": group}


@router.get("/counts/{number}")
async def count(number: Annotated[int, Path()], unit: CurrentUnit) -> dict[str, int]:
    statement = select(func.count()).where(InstanceType.version == number)
    return {"count": (await unit.session.execute(statement)).scalar_one()}


RULES: Rules = {
    **dict.fromkeys(("page_of_things", "look_up", "do_without_a_caller", "fail", "count"), ANYBODY),
    **dict.fromkeys(("use_the_session_after_the_answer_began",), ANYBODY),
    **dict.fromkeys(("make", "make_slowly", "make_and_wait", "change", "remove", "touch", "upload", "stream"), CALLERS),
    "see": on_group(MANAGE),
}


def create(settings: ServiceSettings | None = None, *, rules: Rules = RULES) -> tuple[ServiceSettings, FastAPI]:
    settings = settings or ServiceSettings()
    core = Core(settings, service="test")

    @asynccontextmanager
    async def nothing_more(_: Core) -> AsyncIterator[None]:
        yield

    async def ready() -> None:
        return None

    return settings, create_app(
        service="test", title="Test", core=core, rules=rules, routers=[router], lifespan=nothing_more, ready=ready
    )
