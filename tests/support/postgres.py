"""A PostgreSQL server of a test's own, to be killed and started again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import asyncpg

from deploy.embedded.postgres import Postgres
from tests.support.ports import free_port


class Server:
    """Durable: what it has said is committed must be there after a kill."""

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(data=folder / "data", port=free_port(), password=uuid4().hex)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.postgres.initialise()

    async def start(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            # After a kill the first attempts may fail: the old server's processes have still to notice.
            if self._process is None or self._process.poll() is not None:
                with self._log.open("a") as output:
                    self._process = subprocess.Popen(
                        self.postgres.argv, stdout=output, stderr=output, cwd="/", start_new_session=True
                    )
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                await (await asyncpg.connect(self.postgres.url, timeout=2)).close()
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(self._log.read_text())

    def kill(self) -> None:
        """SIGKILL to every process of the server at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
