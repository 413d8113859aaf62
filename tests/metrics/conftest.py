"""A real Envoy, the metrics service in this process or as processes of its own, and deployments without a deployer."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.dialects.postgresql import insert

from shared.database import Sessions, create_engine, create_sessions
from shared.schema import Deployment, Group
from tests.metrics.front import Front


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    front = Front(tmp_path)
    try:
        yield await front.start()
    finally:
        front.kill()


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(database_url, application="test", connections=5)
    yield create_sessions(engine)
    await engine.dispose()


Deploy = Callable[..., Awaitable[UUID]]


@pytest.fixture
def deploy(sessions: Sessions) -> Deploy:
    """Write a deployment's row as the deployer would."""

    async def write(id_: str, *, group: str = "risk") -> UUID:
        uid = uuid4()
        async with sessions.begin() as session:
            await session.execute(insert(Group).values(id=group, name=group).on_conflict_do_nothing())
            session.add(
                Deployment(uid=uid, id=id_, group_id=group, name=id_, spec={}, created_by="ana", updated_by="ana")
            )
        return uid

    return write


@pytest.fixture
def start_metrics(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a metrics process; all are killed in the end."""
    with ExitStack() as stack:

        def start(admin: str, *, port: int = 0) -> subprocess.Popen[bytes]:
            settings = {
                "MOORAGE_ENVOY_ADMIN_URL": admin,
                "MOORAGE_SCRAPE_SECONDS": "0.1",
                "MOORAGE_PORT": str(port),
            }
            log = stack.enter_context((tmp_path / f"metrics-{uuid4().hex}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "services.metrics"],
                env={**os.environ, **environment, **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


async def eventually(check: Callable[[], Awaitable[None]], *, within: float = 10) -> None:
    """Wait until `check` raises no AssertionError any more."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            await check()
            return
        except AssertionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)
