"""What the benches of one service share: the service as a process of its own, timed calls, the table of the figures."""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests.support.ports import free_port

Call = Callable[[int], Awaitable[httpx.Response]]
"""Of its number."""
PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Served:
    """A service that is up."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def serving(*argv: str, database_url: str, **settings: str) -> AsyncIterator[Served]:
    """Run `python -m argv` on a free port until it is ready. It is ended afterwards."""
    port = free_port()
    environment = os.environ | {
        "MOORAGE_DATABASE_URL": database_url,
        "MOORAGE_SECRET_KEY": b64encode(os.urandom(32)).decode(),
        "MOORAGE_PORT": str(port),
        "MOORAGE_LOG_LEVEL": "warning",
        **settings,
    }
    process = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-m", *argv], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        await _ready(url)
        yield Served(url, process.pid)
    finally:
        process.terminate()
        process.wait(15)


def getting(http: httpx.AsyncClient, path: str, headers: Mapping[str, str]) -> Call:
    return lambda _: http.get(path, headers=headers)


async def timed(calls: int, call: Call, *, pause: float = 0.0) -> list[float]:
    """Milliseconds of each of so many calls, one after the other; every one has to succeed."""
    taken = []
    for number in range(calls):
        began = time.perf_counter()
        answer = await call(number)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.is_success, answer.text
        await asyncio.sleep(pause)
    return taken


def report(
    figures: Mapping[str, list[float]],
    *,
    title: str,
    goals: Mapping[str, tuple[str, float]],
    floor: str,
    shown: int,
    file: Path | None,
) -> None:
    """Print a row for each call, of those called `list: …` only the slowest; all go to `file`. `floor` is the row that
    the others are compared with."""
    found = {name: _summary(taken) for name, taken in figures.items()}
    least = found[floor]["p50"]
    for each in found.values():
        each["ratio"] = round(each["p50"] / least, 2)
    table = Table(title=title)
    for column in ("call", *PERCENTILES, "× floor", "goal"):
        table.add_column(column, justify="left" if column == "call" else "right")
    lists = [name for name in found if name.startswith("list: ")]
    slowest = sorted(lists, key=lambda name: -found[name]["p50"])[:shown]
    for name, each in found.items():
        if name in lists and name not in slowest:
            continue
        goal = goals.get(name)
        met = f"{goal[0]} ≤ {goal[1]:g}: {'met' if each[goal[0]] <= goal[1] else 'MISSED'}" if goal else ""
        table.add_row(name, *(f"{each[key]:.2f}" for key in (*PERCENTILES, "ratio")), met)
    Console(width=110).print(table)
    Console(width=110).print("Every query has its own figures in the JSON.", style="dim")
    if file:
        file.write_text(json.dumps(found, indent=1))


def _summary(taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
    return {name: round(cuts[at - 1], 2) for name, at in zip(PERCENTILES, (50, 95, 99), strict=True)}


async def _ready(url: str) -> None:
    async with httpx.AsyncClient() as http:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/readyz")).is_success:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError("the service did not come up")
