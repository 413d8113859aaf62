"""The registry as a process of its own: for what is sent to its port byte by byte, and for what kills it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class RegistryProcess:
    process: subprocess.Popen[bytes]
    http: httpx.AsyncClient
    port: int
    log: Path
    blobs: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def peak_memory(self) -> int:
        """Bytes that it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024

    def files(self) -> list[Path]:
        return [path for path in self.blobs.rglob("*") if path.is_file()]


@asynccontextmanager
async def registry_process(environment: Mapping[str, str], folder: Path) -> AsyncIterator[RegistryProcess]:
    """Several may share a folder."""
    port = free_port()
    blobs, log = folder / "blobs", folder / f"registry-{port}.log"
    settings = {"MOORAGE_PORT": str(port), "MOORAGE_BLOB_FOLDER": str(blobs), **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            [sys.executable, "-m", "services.registry"],
            env={**os.environ, **settings},
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:

            async def ready() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, within=30)
            yield RegistryProcess(process, http, port, log, blobs)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)


async def begin_upload(
    registry: RegistryProcess, by: Mapping[str, str], data: bytes, *, length: int
) -> asyncio.StreamWriter:
    """Send the head of an upload of `length` bytes, and `data` of it, until these lie in its folder."""
    _, writer = await asyncio.open_connection("127.0.0.1", registry.port)
    lines = ["POST /api/v1/artifacts HTTP/1.1", "Host: x", f"Content-Length: {length}", *map(": ".join, by.items())]
    writer.write("\r\n".join([*lines, "Content-Type: application/octet-stream", "", ""]).encode() + data)
    await writer.drain()

    def arrived() -> bool:
        return sum(path.stat().st_size for path in registry.blobs.joinpath("incoming").iterdir()) >= len(data) // 2

    await until(arrived)
    return writer
