"""The deployment log (D8): which steps to note, from what was known before and what is seen now. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.deployer.platforms import Phase, Replica

__all__ = ["Known", "Step", "steps"]


@dataclass(frozen=True)
class Step:
    step: str
    message: str


@dataclass(frozen=True)
class Known:
    """A replica as it was noted last."""

    version: int
    phase: str
    restarts: int


_STEPS = {
    Phase.STARTING: ("replica_starting", "is starting"),
    Phase.READY: ("replica_ready", "is ready"),
    Phase.UNREADY: ("replica_unready", "does not answer its health check"),
    Phase.DRAINING: ("replica_draining", "is leaving: it gets no new requests and finishes those it has"),
    Phase.ENDED: ("replica_ended", "has ended"),
}


def steps(
    before: Mapping[str, Known], after: Sequence[Replica], *, phase_before: str, phase_after: str, reason: str
) -> list[Step]:
    """In the order of what they tell: each replica's change, then the deployment's."""
    noted = [step for replica in after for step in _of_replica(before.get(replica.id), replica)]
    seen = {replica.id for replica in after}
    for name, known in before.items():
        if name not in seen and known.phase != Phase.ENDED:
            noted.append(Step("replica_ended", f"Replica {name} of version {known.version} has ended."))
    if phase_before != phase_after:
        noted.append(Step(phase_after.lower(), f"The deployment is {phase_after}: {reason}"))
    return noted


def _of_replica(known: Known | None, replica: Replica) -> list[Step]:
    if known and known.phase == replica.phase and known.restarts == replica.restarts:
        return []
    name = f"Replica {replica.id} of version {replica.version}"
    if replica.failure is not None and replica.phase in (Phase.FAILED, Phase.STARTING):
        return [Step("replica_failed", f"{name} failed ({replica.failure.cause}): {replica.failure.message}")]
    if replica.phase is Phase.FAILED:
        return [Step("replica_failed", f"{name} failed.")]
    step, what = _STEPS[replica.phase]
    return [Step(step, f"{name} {what}.")]
