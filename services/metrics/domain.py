"""Pure rules: whose a request is, which samples answer a query, and what is made of them. Time is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from services.metrics.histogram import Histogram
from shared.errors import ValidationFailed

__all__ = [
    "COUNTED", "DAY", "HOUR", "LATENCIES", "METRICS", "MINUTE", "RAW", "TOTAL", "UNITS",
    "Bucket", "Grid", "Owner", "Segment", "grid", "owner", "segments",
]  # fmt: skip

RAW, MINUTE, HOUR, DAY = 5, 60, 3600, 86400
TOTAL = 0
"""Not seconds: everything since ever."""

MAX_POINTS = 2000
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY)
_USUAL_POINTS = 240

LATENCIES: Mapping[str, float] = {"latency_p50": 0.5, "latency_p90": 0.9, "latency_p95": 0.95, "latency_p99": 0.99}

UNITS: Mapping[str, str] = {
    "requests_per_second": "requests per second",
    "success_rate": "share from 0 to 1",
    "client_errors": "requests",
    "server_errors": "requests",
    **dict.fromkeys(LATENCIES, "seconds"),
}
METRICS = tuple(UNITS)
COUNTED = tuple(name for name in METRICS if name not in LATENCIES)


class Owner(NamedTuple):
    """A deployment that has, or had, the id in question."""

    uid: UUID
    created_at: datetime
    deleted_at: datetime | None


def owner(candidates: Sequence[Owner], *, since: datetime | None) -> Owner | None:
    """Whose the requests are that were counted from `since` until now: of whom was live as that time began.

    So what the old deployment answered in its last seconds is never counted as the new one's of the same id.
    """
    ordered = sorted(candidates, key=lambda each: each.created_at)
    if since is not None:
        for each in ordered:
            if each.deleted_at is not None and each.deleted_at > since:
                return each
    live = [each for each in ordered if each.deleted_at is None]
    return (live or ordered)[-1] if candidates else None


class Grid(NamedTuple):
    """The points of an answer: every `step` seconds from `start` up to and without `end` (unix seconds)."""

    start: int
    end: int
    step: int
    resolution: int
    finest: int

    @property
    def times(self) -> range:
        return range(self.start, self.end, self.step)

    def seconds(self, time: int, *, now: float) -> float:
        """How much of the step at `time` has been measured by `now`: scrapes come in the middle of each period."""
        scrapes = int((now - time) / self.finest + 0.5)
        return min(self.step, max(scrapes, 1) * self.finest)


def grid(
    *, start: float, end: float, step: int | None, now: float, kept: Mapping[int, float], finest: int = RAW
) -> Grid:
    """Align what was asked for to the samples that are still `kept` (seconds, by resolution). Raises ValidationFailed.

    The step becomes a multiple of the finest resolution that reaches back to `start`, and of `finest`.
    """
    if end <= start:
        raise ValidationFailed.of("query/to", "must be after `from`")
    if start > now:
        raise ValidationFailed.of("query/from", "lies in the future")
    end = min(end, now)
    reaching = [resolution for resolution, seconds in kept.items() if start >= now - seconds]
    least = max(min(reaching, default=HOUR), finest if RAW in reaching else 0)
    if step is None:
        step = next((each for each in _STEPS if (end - start) / each <= _USUAL_POINTS), _STEPS[-1])
        if (end - start) / step > MAX_POINTS:
            raise ValidationFailed.of("query/from", "the range is too long")
    elif (end - start) / max(step, least) > MAX_POINTS:
        least_step = -int(-(end - start) // MAX_POINTS)
        raise ValidationFailed.of(
            "query/step", f"gives more than {MAX_POINTS} points; take at least {least_step} s or a shorter range"
        )
    step = -(-max(step, least) // least) * least
    first = int(start // step * step)
    last = int(-(-end // step) * step)
    resolution = max(each for each in (RAW, MINUTE, HOUR) if step % each == 0)
    return Grid(first, max(last, first + step), step, resolution, finest)


class Segment(NamedTuple):
    """A stretch of time and the resolution of the samples that hold it."""

    resolution: int
    start: datetime
    end: datetime


def segments(grid: Grid, rolled_up: Mapping[int, datetime]) -> list[Segment]:
    """The coarsest samples that the grid allows as far as they are rolled up, then finer ones: each request once."""
    edges = [_time(grid.start)]
    parts: list[int] = []
    for resolution in (HOUR, MINUTE):
        if resolution <= grid.resolution:
            edges.append(min(max(rolled_up[resolution], edges[-1]), _time(grid.end)))
            parts.append(resolution)
    edges.append(_time(grid.end))
    parts.append(RAW)
    return [Segment(part, *edge) for part, edge in zip(parts, pairwise(edges), strict=True) if edge[0] < edge[1]]


@dataclass(slots=True)
class Bucket:
    """What happened in a span of time to one thing."""

    requests: int = 0
    successes: int = 0
    client_errors: int = 0
    server_errors: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def count(self, code: int, requests: int) -> None:
        """1xx is the last that is heard of a websocket (101), so a success."""
        self.requests += requests
        match code // 100:
            case 4:
                self.client_errors += requests
            case 5:
                self.server_errors += requests
            case _:
                self.successes += requests

    @property
    def success_rate(self) -> float | None:
        return self.successes / self.requests if self.requests else None

    def values(self, wanted: Sequence[str], *, seconds: float) -> list[float | None]:
        """Of the wanted metrics, in their order; `seconds` is how long the bucket has lasted."""
        shares = [share for name, share in LATENCIES.items() if name in wanted]
        microseconds = iter(self.latency.quantiles(shares) or ())
        found: dict[str, float | None] = {
            "requests_per_second": self.requests / seconds,
            "success_rate": self.success_rate,
            "client_errors": self.client_errors,
            "server_errors": self.server_errors,
        }
        for name in LATENCIES:
            if name in wanted:
                value = next(microseconds, None)
                found[name] = None if value is None else value / 1e6
        return [found[name] for name in wanted]


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
