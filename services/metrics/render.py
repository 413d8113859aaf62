"""Pure: rows of samples made into what the API answers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from services.metrics import schemas
from services.metrics.domain import COUNTED, LATENCIES, UNITS, Bucket, Grid
from services.metrics.queries import Labels
from shared.errors import ValidationFailed

__all__ = ["platform_summary", "series", "summary"]

MAX_VALUES = 50_000
"""Points of all series of an answer; 50,000 are some 2 MB, and at most a second of work if all are quantiles."""

_NOTHING: dict[str, object] = {"version": 0, "client": ""}
"""How samples write "none"."""

Counts = Iterable[tuple[Labels, int, int, int]]
Latencies = Iterable[tuple[Labels, int, Sequence[int], Sequence[int]]]


def series(
    grid: Grid,
    counts: Counts,
    latencies: Latencies,
    of_all: Latencies,
    *,
    by: Sequence[str],
    wanted: Sequence[str],
    now: float,
) -> schemas.Metrics:
    """`of_all` are the latencies for the summary. Raises ValidationFailed when it would be too much."""
    total = Bucket()
    found: dict[Labels, defaultdict[int, Bucket]] = {}
    for labels, time, code, count in counts:
        total.count(code, count)
        found.setdefault(labels, defaultdict(Bucket))[time].count(code, count)
    for _, _, bins, numbers in of_all:
        total.latency.add(bins, numbers)
    for labels, time, bins, numbers in latencies:
        found.setdefault(labels, defaultdict(Bucket))[time].latency.add(bins, numbers)
    if not by:  # one series, whether or not there was anything
        found.setdefault((), defaultdict(Bucket))
    times = grid.times
    if len(found) * len(wanted) * len(times) > MAX_VALUES:
        raise ValidationFailed.of(
            "query/by",
            f"gives {len(found)} × {len(wanted)} series of {len(times)} points; ask for fewer, or a longer step",
        )
    named = [_rfc3339(time) for time in times]
    all_series: list[schemas.Series] = []
    for labels in sorted(found, key=str):
        buckets = found[labels]
        rows = [
            buckets[time].values(wanted, seconds=grid.seconds(time, now=now)) if time in buckets else _empty(wanted)
            for time in times
        ]
        described = _describe(by, labels)
        for place, metric in enumerate(wanted):
            points = [(name, row[place]) for name, row in zip(named, rows, strict=True)]
            all_series.append(
                schemas.Series.model_construct(metric=metric, unit=UNITS[metric], labels=described, points=points)
            )
    return schemas.Metrics.model_construct(
        start=_at(grid.start),
        end=_at(grid.end),
        step=grid.step,
        summary=schemas.Figures(**_figures(total, _seconds(grid, now))),
        series=all_series,
    )


def summary(grid: Grid, counts: Counts, latencies: Latencies, *, now: float) -> schemas.Summary:
    """Counts by version, client and code; latencies by version."""
    total = Bucket()
    codes: Counter[str] = Counter()
    versions: defaultdict[int, Bucket] = defaultdict(Bucket)
    clients: defaultdict[str, Bucket] = defaultdict(Bucket)
    for (version, client, _), _, code, count in counts:
        codes[str(code)] += count
        for bucket in (total, versions[version], clients[client]):
            bucket.count(code, count)
    for (version,), _, bins, numbers in latencies:
        total.latency.add(bins, numbers)
        versions[version].latency.add(bins, numbers)
    seconds = _seconds(grid, now)
    return schemas.Summary(
        start=_at(grid.start),
        end=_at(grid.end),
        total=schemas.Figures(**_figures(total, seconds)),
        codes=dict(sorted(codes.items())),
        versions=[
            schemas.VersionFigures(version=version or None, **_figures(bucket, seconds))
            for version, bucket in sorted(versions.items())
        ],
        clients=[
            schemas.ClientFigures(client=client or None, **_counted(bucket, seconds))
            for client, bucket in sorted(clients.items())
        ],
    )


def platform_summary(
    grid: Grid, counts: Counts, latencies: Latencies, *, now: float, limit: int
) -> schemas.PlatformSummary:
    """Counts by deployment, uid, group and code; latencies by the first three."""
    total = Bucket()
    codes: Counter[str] = Counter()
    deployments: defaultdict[Labels, Bucket] = defaultdict(Bucket)
    for labels, _, code, count in counts:
        codes[str(code)] += count
        for bucket in (total, deployments[labels[:3]]):
            bucket.count(code, count)
    for labels, _, bins, numbers in latencies:
        total.latency.add(bins, numbers)
        deployments[labels].latency.add(bins, numbers)
    seconds = _seconds(grid, now)
    busiest = sorted(deployments.items(), key=lambda item: (-item[1].requests, str(item[0])))[:limit]
    return schemas.PlatformSummary(
        start=_at(grid.start),
        end=_at(grid.end),
        total=schemas.Figures(**_figures(total, seconds)),
        codes=dict(sorted(codes.items())),
        deployments=[
            schemas.DeploymentFigures(deployment=id_, uid=str(uid), group=group, **_figures(bucket, seconds))
            for (id_, uid, group), bucket in busiest
        ],
    )


def _figures(bucket: Bucket, seconds: float) -> dict[str, Any]:
    names = tuple(LATENCIES)
    return _counted(bucket, seconds) | dict(zip(names, bucket.values(names, seconds=seconds), strict=True))


def _counted(bucket: Bucket, seconds: float) -> dict[str, Any]:
    values = dict(zip(COUNTED, bucket.values(COUNTED, seconds=seconds), strict=True))
    return {**values, "requests": bucket.requests, "successes": bucket.successes}


def _empty(wanted: Sequence[str]) -> list[float | None]:
    return [None if name in LATENCIES or name == "success_rate" else 0 for name in wanted]


def _describe(by: Sequence[str], labels: Labels) -> dict[str, Any]:
    return {
        name: None if value == _NOTHING.get(name) else value if isinstance(value, int) else str(value)
        for name, value in zip(by, labels, strict=True)
    }


def _seconds(grid: Grid, now: float) -> float:
    return max(min(grid.end, now) - grid.start, 1)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _rfc3339(seconds: int) -> str:
    return _at(seconds).isoformat().replace("+00:00", "Z")
