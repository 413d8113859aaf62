"""End what runs when the whole installation is taken down, deployer included."""

import asyncio
from pathlib import Path

from services.deployer.platforms.local.state import Folder, boot_id
from shared.process import Process


async def shutdown(root: Path) -> None:
    """End every replica under `root`, each with its grace. A deployer that comes later starts them anew."""
    boot = boot_id()
    ending = []
    for path in root.glob("*/*/replica.json"):
        folder = Folder(path.parent)
        record = folder.load()
        for state in folder.states():
            process = Process.adopt(state.identity) if state.boot == boot and not state.ended else None
            if process:
                ending.append(process.terminate(grace=record.grace_seconds if record else 10.0))
    await asyncio.gather(*ending)
