"""Keeps the processes of an installation running.

Started in the background by `up`, it holds the installation's lock, adopts what runs already (after its own death
nothing else has stopped), starts what does not run, and restarts what dies: at once if it had become ready, else ever
more slowly.
"""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import migrations
from deploy.embedded.state import Installation
from deploy.embedded.units import Unit, envoy_config, units
from shared.process import Identity, Process
from shared.telemetry import get_logger

log = get_logger(__name__)

_GRACE = 15.0
_MIGRATE_AGAIN = 2.0
_LARGEST_LOG = 16 * 2**20


class Supervisor:
    def __init__(self, here: Installation) -> None:
        self._here = here
        self._units = units(here)
        self._ready = {unit.name: asyncio.Event() for unit in self._units}
        self._migrated = asyncio.Event()
        self._processes: dict[str, Process] = {}

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then stop everything."""
        self._here.logs.mkdir(exist_ok=True)
        (self._here.folder / "run").mkdir(exist_ok=True)
        config = self._here.folder / "envoy.yaml"
        config.touch(mode=0o600)
        config.write_text(envoy_config(self._here))
        await asyncio.to_thread(self._here.postgres.initialise)

        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        keepers = [asyncio.create_task(self._keep(unit)) for unit in self._units]
        keepers.append(asyncio.create_task(self._migrate()))
        await stop.wait()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await self._stop()

    async def _migrate(self) -> None:
        await self._ready["postgres"].wait()
        while not self._migrated.is_set():
            try:
                await asyncio.to_thread(migrations.upgrade, self._here.postgres.url)
                self._migrated.set()
            except Exception:  # the services wait for it, and nobody would know for what
                log.exception("migrations.failed")
                await asyncio.sleep(_MIGRATE_AGAIN)

    async def _keep(self, unit: Unit) -> None:
        failures = 0
        if unit.after:
            await self._migrated.wait()
        while True:
            process = self.adopt(unit) or await self._start(unit)
            self._processes[unit.name] = process
            watch = asyncio.create_task(self._watch_ready(unit))
            exit_code = await process.wait()
            watch.cancel()
            failures = 0 if self._ready[unit.name].is_set() else failures + 1
            self._ready[unit.name].clear()
            log.warning("process.ended", process=unit.name, exit_code=exit_code)
            # What it has started must not stay behind: PostgreSQL's workers hold what a new one needs.
            await process.kill()
            await asyncio.sleep(min(0.1 * 2**failures, 10.0) if failures else 0)

    async def _start(self, unit: Unit) -> Process:
        output = self._here.logs / f"{unit.name}.log"
        if output.exists() and output.stat().st_size > _LARGEST_LOG:
            output.replace(output.with_suffix(".log.1"))
        process = await Process.start(unit.argv, env=unit.env, cwd=Path("/"), output=output)
        note = self._note(unit)
        draft = note.with_suffix(".new")
        draft.write_text(json.dumps({"pid": process.identity.pid, "start_time": process.identity.start_time}))
        draft.rename(note)
        log.info("process.started", process=unit.name, pid=process.pid)
        return process

    def adopt(self, unit: Unit) -> Process | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            process = Process.adopt(Identity(**json.loads(self._note(unit).read_text())))
            if process:
                log.info("process.adopted", process=unit.name, pid=process.pid)
            return process
        return None

    async def _watch_ready(self, unit: Unit) -> None:
        while not await unit.ready():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.05)
        self._ready[unit.name].set()

    async def _stop(self) -> None:
        for unit in reversed(self._units):
            if process := self._processes.get(unit.name):
                await process.terminate(grace=_GRACE, by=signal.Signals[unit.stop_signal])
                self._note(unit).unlink(missing_ok=True)

    def _note(self, unit: Unit) -> Path:
        return self._here.folder / "run" / f"{unit.name}.json"
