"""Totals of every live endpoint in Prometheus' text format, from the stored totals: a restart of ours resets nothing.

Left out, to bound the number of series: clients, and codes by class only. The limits of the buckets are bounds of bins,
so their counts are exact.
"""

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import text

from services.metrics.histogram import Histogram
from shared.database import Sessions

__all__ = ["endpoints"]

LIMITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds; the same as in Envoy's own (deploy/envoy)."""

# One statement, hence one moment: a roll-up moves rows from one part to another.
_SAMPLES = """
    SELECT uid, version, code, {columns} FROM {table} WHERE resolution = 0
    UNION ALL
    SELECT uid, version, code, {columns} FROM {table}
    WHERE resolution = 60 AND at >= (SELECT until FROM rollups WHERE resolution = 0)
      AND at < (SELECT until FROM rollups WHERE resolution = 60)
    UNION ALL
    SELECT uid, version, code, {columns} FROM {table}
    WHERE resolution = 5 AND at >= (SELECT until FROM rollups WHERE resolution = 60)
"""
_REQUESTS = f"""
    SELECT d.id, d.group_id, s.version, s.code / 100 AS class, CAST(sum(s.count) AS bigint) AS count
    FROM ({_SAMPLES.format(columns="count", table="request_samples")}) s
    JOIN deployments d ON d.uid = s.uid AND d.deleted_at IS NULL
    GROUP BY d.id, d.group_id, s.version, class ORDER BY d.id, s.version, class
"""  # noqa: S608  # constants
_LATENCIES = f"""
    SELECT d.id, d.group_id, s.version, h.bin, CAST(sum(h.count) AS bigint) AS count
    FROM ({_SAMPLES.format(columns="bins, counts", table="latency_samples")}) s
    JOIN deployments d ON d.uid = s.uid AND d.deleted_at IS NULL, unnest(s.bins, s.counts) AS h (bin, count)
    WHERE s.code NOT BETWEEN 400 AND 499
    GROUP BY d.id, d.group_id, s.version, h.bin ORDER BY d.id, s.version
"""  # noqa: S608 - constants


async def endpoints(sessions: Sessions) -> str:
    async with sessions() as session:
        requests = (await session.execute(text(_REQUESTS))).all()
        bins = (await session.execute(text(_LATENCIES))).all()
    latencies: dict[tuple[str, str, int], Histogram] = defaultdict(Histogram)
    for id_, group, version, bin_, count in bins:
        latencies[id_, group, version].counts[bin_] += count
    lines = [
        "# HELP moorage_endpoint_requests_total Requests by version (none: no version was reached) and class of code",
        "# TYPE moorage_endpoint_requests_total counter",
        *(
            f'moorage_endpoint_requests_total{{{_labels(*key)},code_class="{digit}xx"}} {count}'
            for *key, digit, count in requests
        ),
        "# HELP moorage_endpoint_latency_seconds Time from a request's first byte to its answer's last, 4xx left out",
        "# TYPE moorage_endpoint_latency_seconds histogram",
        *(line for key, histogram in latencies.items() for line in _histogram(_labels(*key), histogram)),
    ]
    return "\n".join(lines) + "\n"


def _labels(deployment: str, group: str, version: int) -> str:
    # Ids of deployments and groups are DNS labels: nothing to escape.
    return f'deployment="{deployment}",group="{group}",version="{version or "none"}"'


def _histogram(labels: str, histogram: Histogram) -> Iterator[str]:
    name = "moorage_endpoint_latency_seconds"
    for limit, below in zip(LIMITS, histogram.cumulative([limit * 1e6 for limit in LIMITS]), strict=True):
        yield f'{name}_bucket{{{labels},le="{limit}"}} {below}'
    yield f'{name}_bucket{{{labels},le="+Inf"}} {histogram.total}'
    yield f"{name}_count{{{labels}}} {histogram.total}"
    yield f"{name}_sum{{{labels}}} {histogram.sum() / 1e6:.6f}"
