"""A server's process: in a session of its own, its output in a file, ended with the test process however that ends."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ServerProcess:
    """Started as often as one likes. The kernel kills it once the thread that started it has ended: use no pool."""

    def __init__(self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self._argv = argv
        self._env = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Nothing if it runs."""
        if self.running:
            return
        with self.log.open("a") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.log.parent,
                env=self._env,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise what it has said last when it has ended."""
        if not self.running:
            raise RuntimeError(f"{self.log.name} has ended: {self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: its port is free then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It listens and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
