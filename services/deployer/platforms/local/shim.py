"""The process between the local platform and one run of a replica: it outlives the deployer and says how the run ended.

Started as `python -I -S shim.py <run folder>` with an order (JSON, see `Order`) on its standard input, so that no
secret of the environment touches the disk. It runs the init step, then the server; stamps and rotates their output;
holds the memory limit; on TERM passes TERM on, and KILL after the grace. `state.json` says where it is and, in the
end, how the run ended. It dies with everything below it, and everything below it dies with it.

It imports the standard library only, and little of that: there is one per replica. It does not probe, restart or
decide: that is the platform's.
"""

# pathlib would cost each replica a megabyte:
# ruff: noqa: PTH105, PTH108, PTH110, PTH123, PTH208

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing `typing` for it would cost each replica a megabyte
if TYPE_CHECKING:
    from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PAGE = os.sysconf("SC_PAGE_SIZE")
POLL = 0.2  # seconds between two looks at the memory
CHUNK = 1 << 16
LINE = 16 << 10  # a longer line is cut
MESSAGE = 4096  # bytes of the termination message that are read


class Log:
    """Lines with their time, in `out.log`, `out.log.1` … each of `size` bytes at most, `count` of them."""

    def __init__(self, path: str, *, size: int, count: int) -> None:
        self._path, self._size, self._count = path, size, count
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._written = os.fstat(self._file).st_size
        self._rest = b""
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take what the process printed, in pieces of any kind."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._cut:
                self.line(line)
            self._cut = False
        if len(rest) > LINE:
            if not self._cut:
                self.line(rest)
            self._cut, rest = True, b""
        self._rest = rest

    def flush(self) -> None:
        """The process has ended: what it printed last is a line even without its newline."""
        if self._rest and not self._cut:
            self.line(self._rest)
        self._rest, self._cut = b"", False

    def line(self, raw: bytes) -> None:
        """One line, made text: bytes that are no UTF-8 and control characters are escaped, what is too long is cut."""
        text = raw[:LINE].decode("utf-8", "backslashreplace").rstrip("\r")
        if not text.isprintable():
            text = "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)
        if len(raw) > LINE:
            text += " … (cut)"
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1e6) % 1_000_000:06d}Z"
        data = f"{moment} {text}\n".encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):  # a full disk costs log lines, never the replica
            if self._written + len(data) > self._size:
                self._rotate()
            self._written += os.write(self._file, data)

    def _rotate(self) -> None:
        for number in range(self._count - 1, 0, -1):
            older = f"{self._path}.{number - 1}" if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                os.replace(older, f"{self._path}.{number}")
        if self._count == 1:
            os.unlink(self._path)
        full, self._file = self._file, os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.close(full)
        self._written = 0


class Tree:
    """All processes below this one. As it is their subreaper, none gets out by daemonising.

    Reading every process of the machine for every replica would be dear, so `refresh` reads each only once: a process
    that was not ours does not become ours. `kill` reads all of them anew and is exact.
    """

    def __init__(self) -> None:
        self._members: set[int] = set()
        self._others: set[int] = set()

    def refresh(self) -> set[int]:
        there = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
        self._members &= there
        self._others &= there
        unknown = there - self._members - self._others - {os.getpid()}
        parents = {pid: parent for pid in unknown if (parent := _parent(pid))}
        while found := {pid for pid in parents if parents[pid] in self._members or parents[pid] == os.getpid()}:
            self._members |= found
            for pid in found:
                del parents[pid]
        self._others.update(parents)
        return self._members

    def kill(self) -> bool:
        """Kill them all; False when there was none left."""
        self._members, self._others = set(), set()
        for pid in self.refresh():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(self._members)


def _read(path: str, size: int = -1) -> bytes:
    """Empty when it is not there (any more)."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the state on; the name before them may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * PAGE if fields else 0


def _proportional(pid: int) -> int:
    """Memory with shared pages divided among those who share them: dear to ask for, so asked only in doubt."""
    lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(b"Pss:")), _resident(pid))


def _reap() -> dict[int, int]:
    """The wait status of each child that has ended, adopted grandchildren too."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    return ended


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Shim:
    """One run: the steps of the order one after the other, until one fails or the last has ended."""

    def __init__(self, folder: str, order: "dict[str, Any]") -> None:
        self._folder, self._order = folder, order
        self._log = Log(f"{folder}/out.log", size=order["log_bytes"], count=order["log_files"])
        self._tree = Tree()
        self._child = 0
        self._kill_at: float | None = None
        self._stopped = self._out_of_memory = False
        self._state: dict[str, Any] = {
            "pid": os.getpid(),
            "start_time": int(_stat(os.getpid())[19]),
            "boot": _read("/proc/sys/kernel/random/boot_id").decode().strip(),
            "began_at": time.time(),
        }
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored, it would not wake us
        signal.signal(signal.SIGTERM, self._stop)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> int:
        code = 0
        for step in self._order["steps"]:
            if self._stopped:
                break
            if not (step["unless"] and os.path.exists(step["unless"])):
                code = self._step(step["name"], step["argv"], {**self._order["env"], **step["env"]})
            if code != 0:
                break
        self._record(
            phase="exited",
            exit_code=code,
            out_of_memory=self._out_of_memory,
            stopped=self._stopped,
            message=_read(f"{self._folder}/termination", MESSAGE).decode("utf-8", "replace"),
            ended_at=time.time(),
        )
        return code

    def _step(self, name: str, argv: list[str], env: dict[str, str]) -> int:
        output, sink = os.pipe()
        # TERM is held back while the child is not yet what it will be, or it would get lost in between.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._child = os.fork() or self._become(argv, env, sink)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(sink)
        self._record(phase="running", step=name)
        status = self._attend(output)
        # What it has left running goes with it. Then nobody has the pipe open, and what is in it is the end.
        while self._tree.kill():
            _reap()
            time.sleep(0.005)
        os.set_blocking(output, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, CHUNK):
                self._log.feed(data)
        self._log.flush()
        os.close(output)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _become(self, argv: list[str], env: dict[str, str], sink: int) -> "NoReturn":
        try:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._state["pid"]:  # it died before that took effect
                os._exit(1)
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("500")  # when the machine itself runs out of memory, let it be a model, not the database
            os.chdir(self._order["cwd"])
            os.execvpe(argv[0], argv, env)  # noqa: S606 - a program, never a shell
        except OSError as error:
            os.write(2, f"moorage: cannot run {argv[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _attend(self, output: int) -> int:
        """Do all there is to do until the child has ended; its wait status."""
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        look_at = 0.0
        while (status := _reap().get(self._child)) is None:
            for source, _ in poll.poll(POLL * 1000):
                data = os.read(source, CHUNK)
                if source == output and data:
                    self._log.feed(data)
                elif source == output:  # it has closed its output, and goes on
                    poll.unregister(output)
            now = time.monotonic()
            if now >= look_at:
                look_at = now + POLL
                self._look()
            if self._kill_at is not None and now >= self._kill_at:
                self._tree.kill()
        self._child = 0
        return status

    def _stop(self, *_: object) -> None:
        """Pass TERM on, to the server alone: it knows best in what order its own children should end."""
        if not self._stopped:
            self._stopped = True
            self._kill_at = time.monotonic() + self._order["grace"]
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _look(self) -> None:
        limit = self._order["memory"]
        if not limit or self._out_of_memory:
            return
        members = self._tree.refresh()
        if sum(map(_resident, members)) <= limit or (used := sum(map(_proportional, members))) <= limit:
            return
        self._out_of_memory = True
        self._log.line(f"moorage: out of memory: {used >> 20} MiB used, {limit >> 20} MiB allowed".encode())
        self._tree.kill()

    def _record(self, **facts: "Any") -> None:
        self._state.update(facts)
        path = f"{self._folder}/state.json"
        with contextlib.suppress(OSError):  # a full disk: our exit code says the most of it
            with open(f"{path}.new", "w") as file:
                json.dump(self._state, file)
            os.replace(f"{path}.new", path)


def main() -> int:
    with open(0, "rb", closefd=False) as order:
        shim = Shim(sys.argv[1], json.load(order))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the model and what it was asked
    return shim.run()


if __name__ == "__main__":
    sys.exit(main())
