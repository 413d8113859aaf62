"""Upload and pull through the registry, against curl to a plain nginx on the same disk.

    .venv/bin/python -m bench.artifacts [--mebibytes 1024] [--rounds 5] [--json figures.json]

The same file, by the same curl, in turns, medians of ratios; pulls go to /dev/null. nginx serves with sendfile and
takes uploads by WebDAV's PUT; the registry hashes and examines both ways, and flushes what it keeps to the disk, which
nginx does not. Needs nginx.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

import migrations
from bench.service import Served, serving
from shared.database import create_engine, create_sessions
from tests.support.ports import free_port
from tests.support.postgres import Server, database_folder
from tests.support.services import People

MIB = 1 << 20
GOAL = 0.6

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; user root;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {folder}/body;
    server {{ listen 127.0.0.1:{port}; root {folder}/files; location / {{ dav_methods PUT; }} }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    port = free_port()
    (folder / "files").mkdir(parents=True)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def curl(*words: str) -> float:
    """Seconds."""
    began = time.perf_counter()
    argv = ["curl", "--silent", "--show-error", "--fail", "--retry", "5", "--retry-connrefused", *words]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) // 1024


def measure(ours: Served, theirs: str, token: str, *, folder: Path, size: int, rounds: int) -> dict[str, object]:
    file = folder / "model.bin"
    headers = ["-H", f"Authorization: {token}", "-H", "Content-Type: application/octet-stream"]
    taken: dict[str, list[float]] = {name: [] for name in ("upload, nginx", "upload", "pull, nginx", "pull")}
    before = peak(ours.pid)
    for number in range(rounds):
        with file.open("wb") as written:  # other bytes each time, else they are there already
            block = os.urandom(MIB)
            for each in range(size):
                written.write(number.to_bytes(4, "big") + each.to_bytes(4, "big") + block[8:])
        os.sync()
        digest = subprocess.run(["sha256sum", file], capture_output=True, check=True).stdout.split()[0].decode()
        taken["upload, nginx"].append(curl("-T", str(file), f"{theirs}/model-{number}"))
        os.sync()  # what nginx has not flushed is not on our bill
        taken["upload"].append(curl("-X", "POST", "-T", str(file), *headers, f"{ours.url}/api/v1/artifacts"))
        taken["pull, nginx"].append(curl(f"{theirs}/model-{number}"))
        taken["pull"].append(curl(*headers, f"{ours.url}/api/v1/artifacts/sha256:{digest}"))
    ratio = {
        name: statistics.median(them / us for us, them in zip(taken[name], taken[f"{name}, nginx"], strict=True))
        for name in ("upload", "pull")
    }
    rates = {name: size / statistics.median(seconds) for name, seconds in taken.items()}
    return {"MiB/s": rates, "ratio": ratio, "memory MiB, before and at most": [before, peak(ours.pid)]}


async def bench(*, size: int, rounds: int) -> dict[str, object]:
    with database_folder() as database, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        server = Server(database)
        await server.start()
        try:
            await asyncio.to_thread(migrations.upgrade, server.postgres.url)
            engine = create_engine(server.postgres.url, application="bench", connections=1)
            token = (await People(create_sessions(engine)).add("root", admin=True))["Authorization"]
            await engine.dispose()
            blobs = str(folder / "blobs")
            async with serving(
                "services.registry", database_url=server.postgres.url, MOORAGE_BLOB_FOLDER=blobs
            ) as ours:
                with nginx(folder / "nginx") as theirs:
                    return await asyncio.to_thread(
                        measure, ours, theirs, token, folder=folder, size=size, rounds=rounds
                    )
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    found = asyncio.run(bench(size=given.mebibytes, rounds=given.rounds))
    rates, ratios = found["MiB/s"], found["ratio"]
    assert isinstance(rates, dict)
    assert isinstance(ratios, dict)
    table = Table(title=f"{given.mebibytes} MiB, medians of {given.rounds} rounds")
    for column in ("", "MiB/s", "nginx", "ratio", "goal"):
        table.add_column(column, justify="left" if column in ("", "goal") else "right")
    for name, ratio in ratios.items():
        met = f"≥ {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}"
        table.add_row(name, f"{rates[name]:.0f}", f"{rates[f'{name}, nginx']:.0f}", f"{ratio:.2f}", met)
    Console(width=110).print(table)
    Console(width=110).print(
        f"Memory of the registry before and at most: {found['memory MiB, before and at most']} MiB"
    )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
