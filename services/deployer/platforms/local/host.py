"""This machine as the replicas find it: settings, free ports, GPUs, and the processes that carry a run's mark."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from services.deployer.platforms.platform import PlatformError
from shared.process import Identity, processes
from shared.secrets import Vault

MARK = "MOORAGE_RUN"
"""The variable that all processes of a run inherit; its value is the run's nonce."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The local platform's settings."""

    address: str = "127.0.0.1"
    """Of this machine; the replicas listen on it. They check no tokens, so what can reach it must be trusted."""
    area: str = "local"
    node: str = field(default_factory=socket.gethostname)
    ports: range = range(20000, 32000)
    """Below the range from which the kernel takes ports for outgoing connections."""
    log_bytes: int = 10 << 20
    log_files: int = 5
    history: int = 3
    """So many ended replicas of a version stay listed, with their logs."""
    settle: float = 1.0
    """Seconds a replica drains at least, for a route that was on its way when it began to."""
    backoff: float = 10.0
    backoff_cap: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """What the platform does for one replica."""

    options: Options
    python: str
    models: Path
    artifact_url: Callable[[str], str]
    vault: Vault
    port: Callable[[int], int]
    """A free port, the one given if it is free."""
    changed: Callable[[], None]
    """To be called when the replica's observation has changed."""


def free_port(current: int, *, address: str, among: range, taken: Collection[int]) -> int:
    """A port that nobody listens on: `current` if it can be, else any `among` those not `taken`."""
    if current and current not in taken and _bindable(address, current):
        return current
    for _ in range(1000):
        port = random.choice(among)  # noqa: S311 - spread, not secret
        if port not in taken and _bindable(address, port):
            return port
    raise PlatformError(f"no free port among {among.start}–{among.stop - 1}")


def _bindable(address: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def marked(nonce: str) -> list[Identity]:
    """The processes of a run, the first to be started first."""
    mark = f"{MARK}={nonce}".encode()
    found = []
    for pid, stat in processes():
        with contextlib.suppress(OSError):  # it has gone, or is another user's and so not ours
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(Identity(pid, stat.start_time))
    return sorted(found, key=lambda identity: (identity.start_time, identity.pid))


def sweep(nonce: str) -> None:
    """Kill what a shim that was killed itself has left."""
    for _ in range(100):  # again for what forked meanwhile; not for ever, as no signal ends a process in the kernel
        found = marked(nonce)
        if not found:
            return
        for identity in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGKILL)
        time.sleep(0.002)
