"""How fast a warm installation is ready, and what the idle platform takes of memory.

    .venv/bin/python -m bench.platform [--rounds 5]

Ready means that every process answers its readiness probe. Memory is PSS (shared pages counted once), in MiB, ten
seconds after that, for each process with all that it has started.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.embedded.__main__ import create_admin, down, start_supervisor
from deploy.embedded.state import Installation
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.units import units
from shared.process import processes
from tests.support.ports import free_port


async def start(here: Installation) -> dict[str, float]:
    """Seconds until each process was ready."""
    began = time.perf_counter()
    await start_supervisor(here)
    ready: dict[str, float] = {}
    while len(ready) < len(units(here)):
        for unit in units(here):
            if unit.name not in ready and await unit.ready():
                ready[unit.name] = time.perf_counter() - began
        await asyncio.sleep(0.02)
    return ready


def memory(here: Installation) -> dict[str, float]:
    supervisor = int((here.folder / "supervisor.pid").read_text().split()[0])
    found = {"supervisor": _pss(supervisor)}
    for unit in units(here):
        process = Supervisor(here).adopt(unit)
        assert process
        found[unit.name] = sum(_pss(pid) for pid in _tree(process.pid))
    return found


def _tree(root: int) -> set[int]:
    parents = {pid: stat.parent for pid, stat in processes()}
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel tells no PSS of {pid}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    quiet = Console(quiet=True)
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        Path(folder).chmod(0o711)
        here = Installation.open(Path(folder, "home"), port=free_port())
        for round_number in range(rounds + 1):
            ready = asyncio.run(start(here))
            if round_number == 0:
                create_admin(here)  # the first start also makes the database; it is not counted
            else:
                taken.append(ready)
            if round_number == rounds:
                time.sleep(10)
                used = memory(here)
            asyncio.run(down(here, quiet))
    table = Table(title=f"{rounds} warm starts; memory of the last")
    for column in ("process", "ready after, median s", "worst s", "PSS, MiB"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for name in used:
        times = [ready[name] for ready in taken if name in ready]
        cells = [f"{statistics.median(times):.2f}", f"{max(times):.2f}"] if times else ["", ""]
        table.add_row(name, *cells, f"{used[name]:.0f}")
    every = [max(ready.values()) for ready in taken]
    but_postgres = sum(size for name, size in used.items() if name != "postgres")
    table.add_row(
        "all", f"{statistics.median(every):.2f}", f"{max(every):.2f}", f"{but_postgres:.0f} without PostgreSQL"
    )
    Console().print(table)
    print(json.dumps({"ready_median": statistics.median(every), "ready_worst": max(every), "pss_mib": but_postgres}))


if __name__ == "__main__":
    main()
