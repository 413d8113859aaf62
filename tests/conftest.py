"""Fixtures for everyone: a real PostgreSQL for each test worker, and a migrated database of its own for each test."""

import asyncio
import contextlib
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest

import migrations
from deploy.embedded.postgres import Postgres
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this worker's own, with a migrated database `template` to copy from."""
    folder = tmp_path_factory.mktemp("postgres")
    server = Postgres(data=folder / "data", port=free_port(), password=uuid4().hex, durable=False)
    server.initialise()
    with (folder / "log").open("w") as output:
        process = subprocess.Popen(server.argv, stdout=output, stderr=output, cwd="/", start_new_session=True)
    try:
        asyncio.run(_wait_for(server, process))
        asyncio.run(_execute(server, "CREATE DATABASE template"))
        migrations.upgrade(server.url_of("template"))
        yield server
    finally:
        process.terminate()
        process.wait(10)


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


async def _wait_for(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(server.url)).close()
            return
        await asyncio.sleep(0.05)
    pytest.fail("PostgreSQL did not start; its log is in the test session's folder postgres0")


async def _execute(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
