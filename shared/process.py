"""A supervised process: started in a session of its own or adopted, probed, waited for, ended with all it started.

A pid alone names nothing for long, so a process is known by its pid *and* the time it started (`Identity`), both
as /proc has them; whoever has written these down can adopt the process after a restart of his own. Linux only.

Left out: restarting (its owner decides when), log rotation, and everything about what the process does.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

__all__ = ["Identity", "Process", "Stat", "probe_http", "probe_tcp", "processes", "stat"]

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What /proc tells of a process. `start_time` counts clock ticks since boot; `children_cpu` is of those reaped."""

    state: str
    parent: int
    session: int
    cpu: float
    children_cpu: float
    start_time: int
    memory: int

    @property
    def alive(self) -> bool:
        """A zombie holds its pid and nothing else."""
        return self.state not in "ZX"


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in brackets, may hold anything, brackets and spaces included: count from its last bracket.
    part = text[text.rindex(b")") + 2 :].split()
    return Stat(
        state=part[0].decode(),
        parent=int(part[1]),
        session=int(part[3]),
        cpu=(int(part[11]) + int(part[12])) / TICKS,
        children_cpu=(int(part[13]) + int(part[14])) / TICKS,
        start_time=int(part[19]),
        memory=int(part[21]) * PAGE,
    )


def processes() -> Iterator[tuple[int, Stat]]:
    """All processes that can be seen."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each of hundreds of names, several times a second
        if name.isdecimal() and (found := stat(int(name))) is not None:
            yield int(name), found


@dataclass(frozen=True)
class Identity:
    """One process, for as long as the machine is up."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        found = stat(pid)
        return cls(pid, found.start_time) if found and found.alive else None


class Process:
    """One process that is our child, or was another's before we adopted it."""

    def __init__(self, identity: Identity, *, child: bool) -> None:
        self.identity = identity
        self.exit_code: int | None = None
        """Known once it has ended, and only of a child; negative when a signal ended it."""
        self._child = child
        self._ended = False

    @property
    def pid(self) -> int:
        return self.identity.pid

    @classmethod
    async def start(
        cls,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: bytes = b"",
        output: Path | None = None,
    ) -> Self:
        """Start a child at the head of a new session, with `output` (None: nowhere) for all it prints.

        Raises OSError when there is no such program or folder.
        """
        # A file in memory never blocks on a child that does not read, and is whole before the child exists.
        source = os.memfd_create("stdin")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        sink = os.open(output or os.devnull, flags, 0o600)
        try:
            os.write(source, stdin)
            os.lseek(source, 0, os.SEEK_SET)
            child = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
                argv, env=env, cwd=cwd, stdin=source, stdout=sink, stderr=sink, start_new_session=True
            )
        finally:
            os.close(source)
            os.close(sink)
        child.returncode = 0  # we reap it ourselves; else Popen complains about a child that outlives the object
        identity = Identity.of(child.pid)
        if identity is None:  # it is a zombie already: nobody else can have its pid before we reap it
            found = stat(child.pid)
            identity = Identity(child.pid, found.start_time if found else 0)
        return cls(identity, child=True)

    @classmethod
    def adopt(cls, identity: Identity) -> Self | None:
        """Take over a process that somebody else started; None when it is no longer there."""
        found = stat(identity.pid)
        process = cls(identity, child=found is not None and found.parent == os.getpid())
        return process if found and found.start_time == identity.start_time and process.alive() else None

    def alive(self) -> bool:
        """Whether it runs; a child that has ended is reaped by asking."""
        if self._ended:
            return False
        if self._child:
            try:
                status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                self._ended = True
                return False
            if status is not None:
                exited = status.si_code == os.CLD_EXITED
                self.exit_code = status.si_status if exited else -status.si_status
                self._ended = True
        else:
            self._ended = Identity.of(self.pid) != self.identity
        return not self._ended

    async def wait(self) -> int | None:
        """Wait for its end; the exit code, or None of an adopted one."""
        if not self.alive():
            return self.exit_code
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:  # gone this moment, or a kernel without it
            while self.alive():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
            return self.exit_code
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(handle, ended.set)
            if self.alive():  # asked again: the handle may belong to a later owner of the pid
                await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        self.alive()
        return self.exit_code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone; nothing happens when it has ended."""
        if not self.alive():
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    async def terminate(self, *, grace: float, by: signal.Signals = signal.SIGTERM) -> int | None:
        """Ask it to end; after `grace` seconds, or once it has ended, kill all that is left of its session."""
        self.send(by)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            pass
        await self.kill()
        return self.exit_code

    async def kill(self) -> None:
        """Kill its whole session, and wait until nothing of it is left."""
        self.send(signal.SIGKILL)
        while members := self._members():
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            await asyncio.sleep(0.005)
        await self.wait()

    def _members(self) -> list[int]:
        leader = stat(self.pid)
        if leader is not None and leader.start_time != self.identity.start_time:
            return []  # the pid is another's now, which it becomes only after the last of the session has gone
        return [pid for pid, found in processes() if found.session == self.pid and found.alive]


async def probe_tcp(host: str, port: int, *, deadline: float) -> bool:
    """Whether something accepts a connection within `deadline` seconds."""
    try:
        async with asyncio.timeout(deadline):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def probe_http(host: str, port: int, path: str, *, deadline: float) -> int | None:
    """The status that a GET answers; None without an HTTP answer within `deadline` seconds."""
    target = quote(path, safe="/?&=%:@!$'()*+,;~")
    request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: moorage-probe\r\nConnection: close\r\n\r\n"
    writer = None
    try:
        async with asyncio.timeout(deadline):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request.encode())
            version, status, *_ = (await reader.readline()).split(maxsplit=2)
            return int(status) if version.startswith(b"HTTP/") else None
    except (OSError, TimeoutError, ValueError):  # ValueError: what answers does not speak HTTP
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
