"""A service's real application in this process, with its real lifespan, entered by HTTP."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import insert

from shared.database import Sessions
from shared.schema import Group, Member, SignIn, SigningKey, User
from shared.service import Core
from shared.tokens import generate_key_pair, issue
from tests.support.conformance import conforming


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`, which is started before and stopped after. Errors of the application are raised here.

    So is every answer of one of the four services that its OpenAPI document does not know.
    """
    hooks = {"response": [conforming(app)]} if app.title.startswith("Moorage ") else {}
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://moorage", event_hooks=hooks) as client,
    ):
        yield client


class People:
    """Users with access tokens, without a gateway."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._key = generate_key_pair(uuid4().hex)
        self._published = False
        self._sign_ins: dict[str, UUID] = {}

    @classmethod
    def of(cls, app: FastAPI) -> "People":
        core: Core = app.state.core
        return cls(core.sessions)

    async def add(self, user: str, *, admin: bool = False, groups: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """A user with `(group, permission)` pairs, the groups made where they are not; headers to call with."""
        async with self._sessions.begin() as session:
            if not self._published:
                session.add(
                    SigningKey(
                        kid=self._key.kid,
                        public_jwk=self._key.public_jwk,
                        private_sealed=b"",
                        created_at=_at(0),
                        retires_at=_at(86400),
                    )
                )
            session.add(User(id=user, admin=admin))
            await session.flush()
            session.add(_sign_in(user, self._sign_ins.setdefault(user, uuid4())))
            for group, permission in groups:
                if await session.get(Group, group) is None:
                    await session.execute(insert(Group).values(id=group, name=group))
                session.add(Member(group_id=group, user_id=user, permission=permission))
        self._published = True
        return self.headers(user)

    async def sign_in(self, user: str) -> dict[str, str]:
        """Anew, as a user who is there: headers to call with."""
        self._sign_ins[user] = uuid4()
        async with self._sessions.begin() as session:
            session.add(_sign_in(user, self._sign_ins[user]))
        return self.headers(user)

    def headers(self, user: str) -> dict[str, str]:
        now = time.time()
        token = issue(self._key, user=user, sign_in=self._sign_ins[user], now=now, until=now + 3600)
        return {"Authorization": f"Bearer {token}"}


def _sign_in(user: str, id_: UUID) -> SignIn:
    return SignIn(id=id_, user_id=user, method="password", address="", user_agent="", expires_at=_at(86400))


def _at(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
