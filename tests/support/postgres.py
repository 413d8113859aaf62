"""A PostgreSQL server of the tests' own; some kill it and start it again."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import asyncpg
import psutil

from deploy.embedded.postgres import Postgres
from tests.support.ports import free_port


@contextmanager
def database_folder() -> Iterator[Path]:
    """Where PostgreSQL's own user may enter. Not below pytest's folders: another session that starts closes them."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Server:
    """Durable: what it has said is committed is there after a kill."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.postgres = Postgres(data=folder / "data", port=free_port(), password=uuid4().hex, durable=durable)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.postgres.initialise()

    async def start(self) -> None:
        """Until it answers; nothing if it does."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            # After a kill the first attempts may fail: its shared memory takes a moment to be free.
            if self._process is None or self._process.poll() is not None:
                self._process = self._spawn()
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                await (await asyncpg.connect(self.postgres.url, timeout=2)).close()
                return
            await asyncio.sleep(0.05)
        self._fail()

    def kill(self) -> None:
        """SIGKILL to every process of the server at once."""
        if self._process is not None and self._process.poll() is None:
            server = psutil.Process(self._process.pid)
            server.suspend()  # it makes no more of them meanwhile
            for each in (*server.children(recursive=True), server):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("a") as output:
            return subprocess.Popen(self.postgres.argv, stdout=output, stderr=output, cwd="/", start_new_session=True)

    def _fail(self) -> NoReturn:
        raise TimeoutError(f"PostgreSQL did not start: {self._log.read_text()}")
