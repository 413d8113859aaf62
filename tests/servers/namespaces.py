"""A machine within this machine: namespaces of its own for processes, mounts and network, and a cable to the host.

All that runs or is mounted in it ends with its first process, which waits for the end of a pipe that we hold: nothing
outlives the test process, however that ends. The cable and its routes go with the network namespace; only empty cgroups
can stay, and whoever takes the same machine next removes them. Needs root.
"""

import contextlib
import fcntl
import os
import subprocess
from pathlib import Path
from typing import IO

from tests.servers.cache import folder, missing

_MACHINES = 8
_CGROUPS = Path("/sys/fs/cgroup")
# What Kubernetes writes to fixed places is in memory there, and never seen here.
_SHADOWED = ("/run", "/var/lib", "/var/log")


class Machine:
    """One of a few that there can be at once. The host reaches all of `pods` by way of `address`."""

    def __init__(self) -> None:
        self.number, self._lock = _free_machine()
        self.host_address = f"10.200.{self.number}.1"
        self.address = f"10.200.{self.number}.2"
        self.pods = f"10.244.{self.number}.0/24"
        self.name = f"moorage{self.number}"
        self.cgroup = f"/{self.name}"
        self._first: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._remove_cgroups()
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
        # Who ignores the end of his children need not reap them: the first process inherits all orphans.
        argv += ["sh", "-c", "echo up; exec env --ignore-signal=CHLD cat"]
        self._first = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._first.stdout is not None
        if not self._first.stdout.readline():
            missing("the kernel permits no namespaces here, so there can be no Kubernetes node")
        for hierarchy in _hierarchies():
            (hierarchy / self.name).mkdir(exist_ok=True)
        self._connect()

    def inside(self, *argv: str | Path) -> list[str | Path]:
        """A command line that runs `argv` in there, and ends it when what runs this line is ended."""
        assert self._first is not None
        pid = self._first.pid
        namespaces: list[str | Path] = ["--net", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children"]
        return ["nsenter", f"--target={pid}", *namespaces, "setpriv", "--pdeathsig", "KILL", *argv]

    def run(self, *argv: str | Path) -> str:
        """What it prints; its words on stderr are raised when it fails."""
        return _run(*self.inside(*argv))

    def stop(self) -> None:
        """SIGKILL to all that runs in there; it has ended when this returns."""
        if self._first is not None:
            self._first.communicate()  # closes its pipe
            with contextlib.suppress(RuntimeError):  # the kernel does it by itself, but only in a while
                _run("ip", "link", "delete", self.name)
        self._remove_cgroups()
        self._lock.close()

    def _connect(self) -> None:
        assert self._first is not None
        shadows = [f"mount -t tmpfs -o mode=755 tmpfs {each}" for each in _SHADOWED]
        _run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self._first.pid))
        network = (
            "ip link set lo up",
            f"ip address add {self.address}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {self.host_address}",
        )
        self.run("sh", "-ec", "\n".join((*shadows, *network)))
        _run("ip", "address", "add", f"{self.host_address}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")
        _run("ip", "route", "add", self.pods, "via", self.address)

    def _remove_cgroups(self) -> None:
        for hierarchy in _hierarchies():
            for path, _, _ in os.walk(hierarchy / self.name, topdown=False):
                Path(path).rmdir()


def _free_machine() -> tuple[int, IO[str]]:
    """Its number, and what holds it for as long as this process lives."""
    folder().mkdir(parents=True, exist_ok=True)
    for number in range(_MACHINES):
        lock = (folder() / f"node-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return number, lock
    raise RuntimeError(f"{_MACHINES} nodes run on this machine already")


def _hierarchies() -> list[Path]:
    """Where cgroups are made: one place, or with cgroup v1 one for each controller."""
    found = {each.parent.resolve() for each in (*_CGROUPS.glob("cgroup.procs"), *_CGROUPS.glob("*/cgroup.procs"))}
    return [_CGROUPS] if _CGROUPS in found else sorted(found)


def _run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout
