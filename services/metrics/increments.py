"""Pure: what was counted between two readings of an Envoy.

Three things make a count start again from zero: another process (another incarnation), a series that was evicted (it is
not in the last reading), and a reset (it is lower now). Then all of the new count is new.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.metrics.envoy import LatencySeries, Reading, RequestSeries, parse_bins, parse_name
from services.metrics.histogram import Histogram

__all__ = ["Increments", "increments"]


@dataclass(frozen=True, slots=True)
class Increments:
    requests: Counter[RequestSeries] = field(default_factory=Counter)
    latencies: dict[LatencySeries, Histogram] = field(default_factory=dict)
    evicted: bool = False
    """Whether series of the last reading are gone: then it must be replaced even if nothing was counted."""

    def __bool__(self) -> bool:
        return bool(self.requests or self.latencies or self.evicted)

    @property
    def deployments(self) -> set[str]:
        return {each.deployment for each in self.requests} | {each.deployment for each in self.latencies}


def increments(last: Reading | None, now: Reading) -> Increments:
    """Only what has changed is parsed, so idle series cost next to nothing. Raises Unreadable."""
    before: Mapping[bytes, bytes] = last.series if last and last.incarnation == now.incarnation else {}
    found = Increments(evicted=not before.keys() <= now.series.keys())
    for name, value in now.series.items():
        known = before.get(name)
        if known == value or (key := parse_name(name)) is None:
            continue
        if isinstance(key, RequestSeries):
            count, earlier = int(value), int(known or 0)
            found.requests[key] += count - earlier if count >= earlier else count
        else:
            # Two names may mean the same series, such as two clusters that are none of the deployment's.
            merged = found.latencies.setdefault(key, Histogram())
            added = _added(Counter(dict(parse_bins(value))), Counter(dict(parse_bins(known or b""))))
            merged.add(added.keys(), added.values())
    return found


def _added(now: Counter[int], before: Counter[int]) -> Counter[int]:
    if any(now[bin_] < count for bin_, count in before.items()):
        return now
    return now - before
