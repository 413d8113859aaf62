"""`python -m deploy.embedded up|down|status|supervise`, on the folder MOORAGE_HOME (default: .moorage)."""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.embedded.state import Installation, PortTaken, check_free
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.units import Unit, service_env, units
from services.deployer.platforms.local import shutdown
from shared.process import Identity, Process, probe_http
from shared.telemetry import configure_logging

START_SECONDS = 120.0


async def up(here: Installation, console: Console) -> None:
    """Start everything and wait until it is ready; the first time, make the admin and show the password once."""
    began = time.monotonic()
    with here.supervised() as free:
        if free and not await probe_http("127.0.0.1", here.ports["envoy_admin"], "/ready", deadline=1):
            check_free(here.port)
    if free:
        await start_supervisor(here)
    await wait_until_ready(here, console)
    console.print(f"Moorage is up at [bold]{here.url}[/bold] after {time.monotonic() - began:.1f} s.")
    if password := create_admin(here):
        console.print("The first administrator, shown this once:")
        console.print(f"    user      admin\n    password  [bold]{password}[/bold]", highlight=False)


async def start_supervisor(here: Installation) -> None:
    """In the background: it outlives us."""
    here.logs.mkdir(exist_ok=True)
    env = dict(os.environ) | {"MOORAGE_HOME": str(here.folder), "MOORAGE_PORT": str(here.port)}
    argv = [sys.executable, "-m", "deploy.embedded", "supervise"]
    await Process.start(argv, env=env, cwd=Path("/"), output=here.logs / "supervisor.log")


async def wait_until_ready(here: Installation, console: Console) -> None:
    """Show each process until all are ready. Exits with the log of the one that is not."""
    began = time.monotonic()
    ready: dict[str, float] = {}
    waiting = {unit.name: unit for unit in units(here)}
    with Live(_progress(here, ready), console=console) as live:
        while waiting:
            answers = await asyncio.gather(*(unit.ready() for unit in waiting.values()))
            for unit, answer in zip(tuple(waiting.values()), answers, strict=True):
                if answer:
                    ready[unit.name] = time.monotonic() - began
                    del waiting[unit.name]
            live.update(_progress(here, ready))
            if waiting and time.monotonic() - began > START_SECONDS:
                name = next(iter(waiting))
                tail = (here.logs / f"{name}.log").read_text(errors="replace")[-3000:]
                sys.exit(f"{name} is not ready after {START_SECONDS:.0f} s. The end of its log:\n{tail}")
            await asyncio.sleep(0.05)
    if not console.is_terminal:
        console.print()  # there the view above ends without a line's end


def create_admin(here: Installation) -> str | None:
    """The password of the first administrator, or None if there is one already."""
    command = [sys.executable, "-m", "services.gateway", "create-admin"]
    done = subprocess.run(
        command, env=service_env(here, "gateway"), capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.strip() or None


async def down(here: Installation, console: Console) -> None:
    """Stop the supervisor, with it every service, and then the replicas, which would outlive it."""
    if process := _supervisor(here):
        process.send(signal.SIGTERM)
        await process.wait()
    else:
        for unit in reversed(units(here)):  # a supervisor that was killed has left them running
            if orphan := _running(here, unit):
                await orphan.terminate(grace=15, by=signal.Signals[unit.stop_signal])
    await shutdown(here.replicas)
    console.print("Moorage is down; its data stay in " + str(here.folder))


async def status(here: Installation, console: Console) -> None:
    answers = await asyncio.gather(*(unit.ready() for unit in units(here)))
    for unit, answer in zip(units(here), answers, strict=True):
        process = _running(here, unit)
        state = "[green]ready[/green]" if answer else "[red]not ready[/red]"
        console.print(f"{unit.name:10} {state:24} {f'pid {process.pid}' if process else 'not running'}")
    if not all(answers):
        sys.exit(1)


async def supervise(here: Installation) -> None:
    configure_logging(service="supervisor", level="info")
    with here.supervised() as alone:
        if not alone:
            sys.exit("another supervisor holds this installation")
        note = here.folder / "supervisor.pid"
        own = Identity.of(os.getpid())
        assert own
        note.write_text(f"{own.pid} {own.start_time}")
        await Supervisor(here).run()
        note.unlink(missing_ok=True)


def _supervisor(here: Installation) -> Process | None:
    try:
        pid, start_time = (here.folder / "supervisor.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return Process.adopt(Identity(int(pid), int(start_time)))


def _running(here: Installation, unit: Unit) -> Process | None:
    return Supervisor(here).adopt(unit)


def _progress(here: Installation, ready: dict[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    for unit in units(here):
        if unit.name in ready:
            table.add_row("[green]✓[/green]", unit.name, f"{ready[unit.name]:.1f} s")
        else:
            table.add_row("[yellow]…[/yellow]", unit.name, "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "supervise"])
    command = parser.parse_args().command
    folder = Path(os.environ.get("MOORAGE_HOME", Path(__file__).parents[2] / ".moorage")).resolve()
    console = Console()
    try:
        here = Installation.open(folder, port=int(os.environ.get("MOORAGE_PORT", "8080")))
        if command == "supervise":
            asyncio.run(supervise(here))
        else:
            asyncio.run({"up": up, "down": down, "status": status}[command](here, console))
    except PortTaken as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
