"""End what runs when the whole installation is taken down, deployer included."""

import asyncio
from pathlib import Path

from services.deployer.platforms.local.host import sweep
from services.deployer.platforms.local.replica import MARGIN
from services.deployer.platforms.local.state import Folder, boot_id
from shared.process import Process


async def shutdown(root: Path) -> None:
    """End every replica under `root`, each with its grace. A deployer that comes later starts them anew."""
    folders = [Folder(path.parent) for path in await asyncio.to_thread(lambda: list(root.glob("*/*/replica.json")))]
    await asyncio.gather(*map(_end, folders))


async def _end(folder: Folder) -> None:
    record = folder.load()
    if record is None or not record.running:
        return
    state = folder.state(record.run)
    if state is not None and state.boot == boot_id() and (process := Process.adopt(state.identity)):
        await process.terminate(grace=record.grace_seconds + MARGIN)
    sweep(record.nonce)  # a shim that was only just born, or one that was killed
