"""When an answer, or its absence, changes what a replica is taken for, and how long a failing one waits.

Pure: the outcome of a probe and the time go in, a verdict comes out.
"""

from dataclasses import dataclass
from enum import Enum, auto

STARTING_PERIOD = 0.1
RUNNING_PERIOD = 1.0
PROBE_DEADLINE = 2.0
FAILURES = 3
"""So many probes in a row must go unanswered before a Ready replica is Unready; an answer that says no is enough."""
UNRESPONSIVE = 30.0
"""After so many seconds without any HTTP answer a running replica is killed and started again."""
STABLE = 60.0
"""A run that was Ready for so long wipes out the failures before it."""


class Verdict(Enum):
    STARTING = auto()
    READY = auto()
    UNREADY = auto()
    NEVER_ANSWERED = auto()
    UNRESPONSIVE = auto()


@dataclass
class Health:
    """One run's health. `began_at` and every `now` are seconds on one clock."""

    began_at: float
    start_seconds: float
    verdict: Verdict = Verdict.STARTING
    last_answer: int | None = None
    _failures: int = 0
    _answered_at: float | None = None

    def heard(self, status: int | None, *, now: float) -> Verdict:
        """Take one probe's outcome: the HTTP status, or None when there was no answer."""
        if status is not None:
            self.last_answer, self._answered_at = status, now
        if status is not None and 200 <= status < 400:
            self._failures, self.verdict = 0, Verdict.READY
            return self.verdict
        self._failures = FAILURES if status is not None else self._failures + 1
        if self.verdict is Verdict.STARTING:
            if now - self.began_at >= self.start_seconds:
                self.verdict = Verdict.NEVER_ANSWERED
        elif now - (self._answered_at or self.began_at) >= UNRESPONSIVE:
            self.verdict = Verdict.UNRESPONSIVE
        elif self._failures >= FAILURES:
            self.verdict = Verdict.UNREADY
        return self.verdict

    @property
    def period(self) -> float:
        """Seconds until the next probe: a start is followed closely."""
        return STARTING_PERIOD if self.verdict is Verdict.STARTING else RUNNING_PERIOD


def backoff(failures: int, *, base: float = 10.0, cap: float = 300.0) -> float:
    """How long to wait after so many failed runs in a row: the first restart is at once, as kubelet's is."""
    return 0.0 if failures <= 1 else min(cap, base * 2.0 ** min(failures - 2, 16))
