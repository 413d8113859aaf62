"""Fixtures for everyone: a real PostgreSQL for each test worker, and a migrated database of its own for each test.

And a Kubernetes control plane for the one worker that has the tests of `xdist_group("kubernetes")`: 480 MiB.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest
import structlog

import migrations
from deploy.embedded.postgres import Postgres
from tests.servers import kubernetes, kwok, node
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.servers.node import Node
from tests.support.postgres import Server, database_folder


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Else structlog draws every exception with all its local variables, which takes seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this worker's own, with a migrated database `template` to copy from."""
    with database_folder() as folder:
        server = Server(folder, durable=False)
        try:
            asyncio.run(server.start())
            asyncio.run(_execute(server.postgres, "CREATE DATABASE template"))
            migrations.upgrade(server.postgres.url_of("template"))
            yield server.postgres
        finally:
            server.kill()


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A migrated, empty database for one test."""
    name = f"test_{uuid4().hex}"
    await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE template STRATEGY file_copy")
    yield postgres.url_of(name)
    await _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """The settings that every service needs."""
    return {"MOORAGE_DATABASE_URL": database_url, "MOORAGE_SECRET_KEY": b64encode(os.urandom(32)).decode()}


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """For every test that leaves it running. Whoever kills parts of it has one of his own: `kubernetes.running`."""
    with kubernetes.running() as plane:
        yield plane


@pytest.fixture(scope="session")
def fake_nodes(control_plane: ControlPlane) -> Iterator[Kwok]:
    with kwok.running(control_plane) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def real_node() -> Iterator[Node]:
    """With a control plane of its own, `real_node.plane`: the scheduler would spread pods over fake nodes too."""
    with kubernetes.running(node.HOST_ADDRESS) as plane, node.running(plane) as found:
        yield found


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """An empty one for one test."""
    name = f"test-{uuid4().hex[:8]}"
    control_plane.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    control_plane.admin.call("DELETE", f"/api/v1/namespaces/{name}")


async def _execute(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
