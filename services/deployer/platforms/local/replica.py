"""One replica on this machine: run after run of its shim, probed, restarted with back-off, until it is to go.

It lives in one task. Whoever wants something of it (`provide`, `drain`, `end`) leaves the wish in the record and nudges
the task, so nothing here needs a lock. What is left out: how many there should be, and which of them go (`rollout`).
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from pathlib import Path

import structlog

from services.deployer.platforms import environment
from services.deployer.platforms.causes import LOG_LINES
from services.deployer.platforms.local import health, logs, template, verdict
from services.deployer.platforms.local.health import Health, Verdict
from services.deployer.platforms.local.host import MARK, Host, has_gpu, marked, sweep
from services.deployer.platforms.local.order import order
from services.deployer.platforms.local.state import Folder, Record, boot_id
from services.deployer.platforms.platform import Cause, Failure, Phase, PlatformError, Workload
from services.deployer.platforms.rollout import Candidate
from shared.process import Identity, Process, probe_http

log = structlog.get_logger(__name__)

SHIM = Path(__file__).with_name("shim.py")
MARGIN = 5.0
"""Seconds that a shim has beyond its server's grace to write down how that ended."""
PAUSE = 1.0
"""Seconds after which work that the machine refused (a full disk) is tried again."""


class LocalReplica:
    """Made for a new record or for one found on disk; `start` sets it to work, `leave` lets go of it as it is."""

    def __init__(self, record: Record, folder: Folder, host: Host) -> None:
        self.record = record
        self.folder = folder
        self._host = host
        self._workload: Workload | None = None
        self._process: Process | None = None
        self._health: Health | None = None
        self._retry_at = 0.0
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # What others see

    @property
    def phase(self) -> Phase:
        record = self.record
        if record.ended_at is not None:
            return Phase.ENDED
        if record.ending or record.draining_since is not None:
            return Phase.DRAINING
        if self._process is not None and self._health is not None:
            if self._health.verdict is Verdict.READY:
                return Phase.READY
            if record.ready_since is not None:
                return Phase.UNREADY
        refused = record.failure is not None and record.failure.cause is Cause.UNSCHEDULABLE
        return Phase.FAILED if refused or record.failures > 1 else Phase.STARTING

    @property
    def candidate(self) -> Candidate:
        record = self.record
        return Candidate(
            id=record.id,
            template_digest=record.template_digest,
            phase=self.phase,
            proven=record.proven,
            started_at=record.created_at,
            draining_since=record.draining_since,
            ending=record.ending,
        )

    @property
    def shim(self) -> int | None:
        """The pid of the running shim."""
        return self._process.pid if self._process else None

    @property
    def restarts(self) -> int:
        return max(0, self.record.run - 1)

    def run_ended(self, number: int) -> bool:
        return not self.record.running or number != self.record.run

    # What others want

    def start(self) -> None:
        if self._workload is None and (kept := self.folder.workload()):
            self._workload = template.opened(kept, digest=self.record.template_digest, vault=self._host.vault)
        if self.record.running:
            self._adopt()
        self._task = asyncio.create_task(self._live(), name=f"replica {self.record.id}")

    def provide(self, workload: Workload) -> None:
        """Give it what its next run is made from, if it has none."""
        if self._workload is None:
            self._workload = workload
            self._keep(workload)
            self._nudge.set()

    def drain(self) -> None:
        self.record.draining_since = time.time()
        self._save()
        asyncio.get_running_loop().call_later(self._host.options.settle, self._host.changed)
        self._host.changed()

    def end(self, *, forget: bool = False) -> None:
        """End it now; with `forget`, nothing of it is kept."""
        self.record.ending = True
        self.record.deleted |= forget
        self._save()
        self._nudge.set()
        self._host.changed()

    async def leave(self) -> None:
        """Stop caring; its processes go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # Its life

    async def _live(self) -> None:
        while self.record.ended_at is None:
            try:
                await self._step()
            except OSError:
                log.exception("replica not handled", replica=self.record.id)
                await asyncio.sleep(PAUSE)
        self._host.changed()

    async def _step(self) -> None:
        """Do the next thing, or wait for it."""
        self._nudge.clear()
        if self.record.ending:
            await self._finish()
        elif self._process is not None:
            await self._attend(self._process)
        elif self._workload is None or self.record.draining_since is not None:
            await self._nudge.wait()
        elif (wait := self._retry_at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), wait)
        else:
            await self._begin(self._workload)

    async def _begin(self, workload: Workload) -> None:
        """Start the next run."""
        record = self.record
        gpu = workload.template.resources.gpu
        if gpu > 0 and not has_gpu():
            self._fail(verdict.no_gpu(gpu))
            return
        try:
            record.port = self._host.port(record.port)
            record.run, record.nonce, record.running = record.run + 1, secrets.token_hex(16), True
            folder = self.folder.new_run(record.run)
            self.folder.save(record)  # before the spawn: no process without a record of it
            task = order(workload, record=record, run=folder, work=self.folder.work, host=self._host)
            self._process = await Process.start(
                [sys.executable, "-I", "-S", SHIM, folder],
                env={**environment.inherited(os.environ), MARK: record.nonce},
                stdin=json.dumps(task).encode(),
                output=folder / "shim.log",
            )
        except (OSError, PlatformError) as error:
            log.exception("replica not started", replica=record.id)
            self._fail(verdict.not_started(error))
            return
        self._health = Health(began_at=time.monotonic(), start_seconds=record.start_seconds)
        self._host.changed()

    async def _finish(self) -> None:
        record = self.record
        if self._process is not None:
            await self._stop(self._process)
        await asyncio.to_thread(self.folder.remove if record.deleted else self.folder.keep_logs)
        record.running, record.ended_at = False, time.time()
        if not record.deleted:
            self._save()

    async def _attend(self, process: Process) -> None:
        """Stay with a run until it ends, the probes give it up, or it is to go."""
        ended = asyncio.create_task(process.wait())
        probes = asyncio.create_task(self._probe())
        nudge = asyncio.create_task(self._nudge.wait())
        try:
            await asyncio.wait({ended, probes, nudge}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, probes, nudge):
                task.cancel()
            await asyncio.gather(ended, probes, nudge, return_exceptions=True)
        gave_up = probes.result() if not probes.cancelled() else None
        if self.record.ending:
            return
        if gave_up is not None:
            await self._stop(process)
        if not process.alive():
            self._run_ended(gave_up)

    async def _probe(self) -> Verdict:
        """Ask after its health for as long as there is hope; why there is none."""
        record, beat = self.record, self._health
        assert beat is not None
        while True:
            before = beat.verdict
            status = await probe_http(record.host, record.port, record.probe_path, deadline=health.PROBE_DEADLINE)
            after = beat.heard(status, now=time.monotonic())
            if after is not before:
                self._note(after)
            if after in (Verdict.NEVER_ANSWERED, Verdict.UNRESPONSIVE) and record.draining_since is None:
                return after
            await asyncio.sleep(beat.period)

    def _note(self, verdict: Verdict) -> None:
        record = self.record
        if verdict is Verdict.READY:
            record.ready_since, record.proven, record.failure = time.time(), True, None
            self._save()
        self._host.changed()

    def _run_ended(self, gave_up: Verdict | None = None) -> None:
        record, beat = self.record, self._health
        state = self.folder.state(record.run)
        if state is None or not state.ended:
            sweep(record.nonce)
        self._process, self._health = None, None
        if gave_up is None and (state is not None and state.interrupted(boot_id())):
            record.running, record.ready_since, self._retry_at = False, None, 0.0
            self._save()
            self._host.changed()
            return
        stable = record.ready_since is not None and time.time() - record.ready_since >= health.STABLE
        failure = verdict.judge(
            state,
            gave_up=gave_up,
            answer=beat.last_answer if beat else None,
            probe=record.probe_path,
            memory=record.memory,
            log=logs.last_lines(self.folder.run(record.run), LOG_LINES),
        )
        self._fail(failure, first=stable)

    def _fail(self, failure: Failure, *, first: bool = False) -> None:
        """Take note of a failed run, and when to try again."""
        record, options = self.record, self._host.options
        record.running, record.ready_since, record.failure = False, None, failure
        record.failures = 1 if first else record.failures + 1
        self._save()
        pause = health.backoff(record.failures, base=options.backoff, cap=options.backoff_cap)
        self._retry_at = time.monotonic() + pause
        log.warning("replica failed", replica=record.id, cause=failure.cause, retry_in=pause)
        self._host.changed()

    async def _stop(self, process: Process) -> None:
        """End the run, with its grace, and all its processes."""
        await process.terminate(grace=self.record.grace_seconds + MARGIN)
        state = self.folder.state(self.record.run)
        if state is None or not state.ended:
            sweep(self.record.nonce)

    def _keep(self, workload: Workload) -> None:
        """For a later deployer process. If the disk is full it has none, and serves on all the same."""
        try:
            self.folder.keep_workload(template.sealed(workload, vault=self._host.vault))
        except OSError:
            log.exception("workload not kept", replica=self.record.id)

    def _save(self) -> None:
        """Write the record down. A disk that is full must not keep a replica from being ended, so it is no error."""
        try:
            self.folder.save(self.record)
        except OSError:
            log.exception("replica not written down", replica=self.record.id)

    def _adopt(self) -> None:
        """Find the run that an earlier platform process began."""
        record = self.record
        state = self.folder.state(record.run)
        identity: Identity | None = None
        if state is None:  # it was begun the moment the platform died: its shim is the first to carry the mark
            identity = next(iter(marked(record.nonce)), None)
        elif state.boot == boot_id() and not state.ended:
            identity = state.identity
        self._process = Process.adopt(identity) if identity else None
        if self._process is None:
            self._run_ended()
            return
        self._health = Health(began_at=time.monotonic(), start_seconds=record.start_seconds)
        if record.ready_since is not None:
            self._health.verdict = Verdict.READY  # it is routed: only a failing probe may say otherwise
        log.info("replica adopted", replica=record.id, pid=self._process.pid)
