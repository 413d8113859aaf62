"""What the tests of shared/ stand on: an engine, hints, and a server that may be killed."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import migrations
from shared.database import Direct, Hints, Sessions, create_engine, create_sessions
from tests.servers import kafka
from tests.servers.kafka import Broker
from tests.support.postgres import Server, database_folder


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = create_engine(database_url, application="test", connections=10)
    yield made
    await made.dispose()


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[Direct]:
    async with Direct(database_url, application="test", connections=10) as made:
        yield made


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return create_sessions(engine)


@pytest.fixture
async def hints(database_url: str) -> AsyncIterator[Hints]:
    made = Hints(database_url)
    connected = asyncio.Event()
    end = made.listen(lambda *_: connected.set())
    await made.start()
    await connected.wait()
    end()
    yield made
    await made.stop()


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection past everything of ours."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    with database_folder() as folder:
        made = Server(folder)
        try:
            asyncio.run(made.start())
            migrations.upgrade(made.postgres.url)
            yield made
        finally:
            made.kill()


@pytest.fixture
async def server(_server: Server) -> AsyncIterator[Server]:
    """A migrated, empty server that this test may kill."""
    yield _server
    await _server.start()
    connection = await asyncpg.connect(_server.postgres.url)
    tables = await connection.fetchval(
        "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    await connection.execute("SET session_replication_role = replica")  # the audit log refuses it
    await connection.execute(f"TRUNCATE {tables}")
    await connection.close()


@pytest.fixture(scope="session")
def _broker() -> Iterator[Broker]:
    with kafka.running() as made:
        yield made


@pytest.fixture
async def broker(_broker: Broker) -> AsyncIterator[Broker]:
    """A Kafka broker that this test may stop or kill."""
    yield _broker
    _broker.resume()
    await _broker.start()
