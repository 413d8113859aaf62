"""`python -m deploy.demo`: exits 0 only if each check held and nothing was left behind."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import PostgresDsn, SecretStr
from rich.console import Console

from deploy.demo.client import Client
from deploy.demo.journey import EXAMPLES, Journey, Trained
from deploy.demo.narrator import Narrator
from deploy.embedded.__main__ import create_admin, down, start_supervisor, wait_until_ready
from deploy.embedded.state import Installation
from deploy.embedded.units import units
from services.deployer.app import platform_of
from services.deployer.settings import DeployerSettings
from shared.process import probe_tcp, processes
from shared.secrets import Vault


def main() -> None:
    console = Console(width=min(Console().width, 140) if sys.stdout.isatty() else 140)
    show = Narrator(console)
    with tempfile.TemporaryDirectory(prefix="moorage-demo-") as scratch:
        Path(scratch).chmod(0o711)  # PostgreSQL's system user passes through
        folder = Path(scratch, "home")
        os.environ["MOORAGE_HOME"] = str(folder)
        os.environ["MOORAGE_PORT"] = str(_free_port())
        os.environ.setdefault("MOORAGE_SCRAPE_SECONDS", "1")
        here = Installation.open(folder, port=int(os.environ["MOORAGE_PORT"]))
        try:
            run(here, show, Path(scratch, "trained"))
        finally:
            asyncio.run(down(here, console))
        show.step("Nothing is left")
        nothing_left(here, show)
    if show.failed:
        console.print(f"[red]{show.failed} checks failed.[/red]")
        sys.exit(1)
    console.print("\n[green]Every check held.[/green] `make up` leaves a platform running for you to use.")


def run(here: Installation, show: Narrator, trained: Path) -> None:
    show.step("Train a model on real data, and start the platform: PostgreSQL, Envoy, four services")
    script = EXAMPLES / "breast_cancer" / "train.py"
    training = subprocess.Popen(
        [sys.executable, script, "--out", trained, "--variant", "1", "--variant", "2"], stdout=subprocess.DEVNULL
    )
    asyncio.run(start_supervisor(here))
    asyncio.run(wait_until_ready(here, show.console))
    password = create_admin(here)
    assert password
    show.check("the training script ended well", training.wait() == 0)
    versions = [Trained.read(trained / "v1"), Trained.read(trained / "v2")]

    client = Client(here.url, show)
    try:
        journey = Journey(client, show)
        journey.sign_in(password)
        journey.register(versions)
        journey.deploy()
        journey.call_privately(versions[0])
        journey.show_caller()
        journey.shift_traffic(versions)
        journey.refuse()
        journey.look_back()
        journey.stop_start_delete(versions[0])
    finally:
        client.close()


def nothing_left(here: Installation, show: Narrator) -> None:
    """No process that names our folder, no port of ours, no replica's file."""
    mine = os.getpid()
    left = [pid for pid, _ in processes() if pid != mine and str(here.folder) in _command_line(pid)]
    show.check("no process", not left, left)
    ports = [here.port, *here.ports.values()]
    answered = [port for port in ports if asyncio.run(probe_tcp("127.0.0.1", port, deadline=0.2))]
    show.check(f"no port of the {len(ports)} that {len(units(here))} processes used", not answered, answered)
    files = [str(file) for file in here.replicas.glob("*/*")]
    show.check("no file of a replica or of a model's copy", not files, files[:10])
    settings = DeployerSettings(database_url=PostgresDsn(here.postgres.url), secret_key=SecretStr(here.secret_key))
    if settings.platform == "kubernetes":
        found = asyncio.run(_on_the_cluster(settings))
        show.check("no object on the cluster", not found, found)


async def _on_the_cluster(settings: DeployerSettings) -> list[str]:
    """The deployments of which anything is there."""
    async with platform_of(settings, Vault(settings.root_key)) as platform:
        return sorted(map(str, await platform.deployments()))


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
