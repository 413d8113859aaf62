"""What the folder of an installation remembers: its secrets and its ports, made once."""

import fcntl
import json
import os
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deploy.embedded.postgres import Postgres

PORTS = ("postgres", "envoy_admin", "xds", "snapshot", "registry", "deployer", "gateway", "metrics")


class PortTaken(Exception):
    """The public port belongs to another process."""


@dataclass(frozen=True)
class Installation:
    """One installation. `port` is the front door's; all others are on loopback."""

    folder: Path
    port: int
    ports: dict[str, int]
    secret_key: str
    database_password: str

    @classmethod
    def open(cls, folder: Path, *, port: int) -> Self:
        """The installation in `folder`, made if there is none. Ports stay the same for as long as it lives."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / "installation.json"
        if file.exists():
            return cls(**json.loads(file.read_text()) | {"folder": folder, "port": port})
        made = cls(
            folder=folder,
            port=port,
            ports=dict(zip(PORTS, _free_ports(len(PORTS), but=port), strict=True)),
            secret_key=b64encode(secrets.token_bytes(32)).decode(),
            database_password=secrets.token_urlsafe(32),
        )
        remembered = {key: value for key, value in asdict(made).items() if key not in ("folder", "port")}
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(remembered))
        draft.rename(file)
        return made

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def postgres(self) -> Postgres:
        return Postgres(self.folder / "postgres", self.ports["postgres"], self.database_password)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def replicas(self) -> Path:
        return self.folder / "replicas"

    @contextmanager
    def supervised(self) -> Iterator[bool]:
        """Hold the supervisor's lock; False when another process holds it."""
        handle = os.open(self.folder / "supervisor.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(handle)


def check_free(port: int) -> None:
    """Raises PortTaken with what to do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTaken(f"Port {port} is taken by another process; choose one with MOORAGE_PORT=…") from error


def _free_ports(count: int, *, but: int) -> list[int]:
    """Ports below the kernel's range for outgoing connections, which might otherwise take one while we are down."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    chosen = secrets.SystemRandom()
    while len(found) < count:
        port = chosen.randrange(min(lowest, 32768) - 12000, min(lowest, 32768))
        if port == but or port in found:
            continue
        try:
            check_free(port)
        except PortTaken:
            continue
        found.append(port)
    return found
