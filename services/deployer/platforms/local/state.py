"""What is on disk of a replica. One folder each, each file with one writer:

    <root>/<uid>/<replica>/replica.json        the platform: what it is, what has happened to it (`Record`)
                           workload.sealed     the platform: what its next run is made from (`template`)
                           run-<n>/state.json  the shim: where the run is, how it ended (`RunState`)
                           run-<n>/termination the replica: its last word
                           run-<n>/out.log…    the shim: what the replica printed
                           work/               the replica's working directory

The last two runs are kept. Nothing here holds a command's environment, which may be secret, in the clear.
"""

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from uuid import UUID

from services.deployer.platforms.platform import Cause, Evidence, Failure
from shared.process import Identity


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class RunState:
    """The shim's account of one run. Times are seconds since the epoch."""

    pid: int
    start_time: int
    boot: str
    began_at: float
    phase: str
    step: str
    exit_code: int | None = None
    out_of_memory: bool = False
    stopped: bool = False
    message: str = ""
    ended_at: float | None = None

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start_time)

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    def interrupted(self, boot: str) -> bool:
        """It was asked to end, or the machine went down under it: no fault of its own."""
        return self.stopped if self.ended else self.boot != boot


@dataclass
class Record:
    """What the platform must know of a replica after a restart of its own. Times are seconds since the epoch."""

    id: str
    version: int
    template_digest: str
    model_digest: str | None
    host: str
    port: int
    probe_path: str
    start_seconds: float
    grace_seconds: float
    memory: int
    created_at: float
    run: int = 0
    nonce: str = ""
    """In the environment of all processes of the current run."""
    running: bool = False
    """The current run has begun, and its end has not been taken note of."""
    failures: int = 0
    """Runs in a row that failed."""
    failure: Failure | None = None
    proven: bool = False
    ready_since: float | None = None
    draining_since: float | None = None
    ending: bool = False
    deleted: bool = False
    ended_at: float | None = None


@dataclass(frozen=True)
class Folder:
    """One replica's folder."""

    path: Path

    @property
    def uid(self) -> UUID:
        return UUID(self.path.parent.name)

    @property
    def work(self) -> Path:
        return self.path / "work"

    def run(self, number: int) -> Path:
        return self.path / f"run-{number}"

    def save(self, record: Record) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / "replica.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(self.path / "replica.json")

    def load(self) -> Record | None:
        """None when there is none that can be read: then the replica never came to be."""
        try:
            facts = json.loads((self.path / "replica.json").read_text())
            if facts["failure"] is not None:
                facts["failure"] = _failure(facts["failure"])
            known = {spec.name for spec in fields(Record)}  # a later release may have written more
            return Record(**{name: value for name, value in facts.items() if name in known})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep_workload(self, sealed: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / "workload.sealed.new"
        draft.touch(mode=0o600)
        draft.write_bytes(sealed)
        draft.replace(self.path / "workload.sealed")

    def workload(self) -> bytes | None:
        try:
            return (self.path / "workload.sealed").read_bytes()
        except OSError:
            return None

    def state(self, number: int) -> RunState | None:
        """None when the shim of that run has not come so far."""
        try:
            return RunState(**json.loads((self.run(number) / "state.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def new_run(self, number: int) -> Path:
        """An empty folder for the run; those before the previous one are removed."""
        self.work.mkdir(parents=True, exist_ok=True)
        for old in self.path.glob("run-*"):
            if old != self.run(number - 1):
                shutil.rmtree(old)
        self.run(number).mkdir()
        return self.run(number)

    def states(self) -> list[RunState]:
        """Of all runs that are kept."""
        numbers = [int(path.name.removeprefix("run-")) for path in self.path.glob("run-*")]
        return [state for number in numbers if (state := self.state(number))]

    def keep_logs(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        (self.path / "workload.sealed").unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _failure(facts: dict[str, object]) -> Failure:
    evidence = facts["evidence"]
    assert isinstance(evidence, dict)
    return Failure(
        cause=Cause(str(facts["cause"])),
        message=str(facts["message"]),
        advice=str(facts["advice"]),
        evidence=Evidence(exit_code=evidence["exit_code"], log=tuple(evidence["log"])),
    )
