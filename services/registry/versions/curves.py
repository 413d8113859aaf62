"""A long curve made short enough to plot, with its extremes kept. Pure.

Min–max buckets (what dashboards such as Grafana's and tsdownsample's `MinMax` do): the points are cut into runs of the
same length, and each run is stood for by its lowest and its highest point, in their order. LTTB draws a nicer line, but
may leave a spike out; the spike in a loss is what one looks for. Points come and go as they were stored: nothing is
averaged, so each one shown was measured.
"""

Point = list[float | None]
"""`[step, value]`; a value of None is a gap, such as a NaN that could not be stored."""

FEWEST = 4
"""The first, the last, and the two of one bucket."""


def downsample(points: list[Point], most: int) -> list[Point]:
    """At most `most` (from FEWEST up) of the points: the first, the last, and of each bucket between them the lowest
    and the highest. A bucket that is all gaps stays one gap."""
    if len(points) <= most:
        return points
    inner = len(points) - 2
    buckets = (most - 2) // 2
    kept = [points[0]]
    for bucket in range(buckets):
        start, end = 1 + bucket * inner // buckets, 1 + (bucket + 1) * inner // buckets
        # By (value, index): the first of equal ones, and min and max without a key function for each.
        measured = [(value, at) for at in range(start, end) if (value := points[at][1]) is not None]
        if not measured:
            kept.append(points[start])
            continue
        kept.extend(points[at] for at in sorted({min(measured)[1], max(measured)[1]}))
    kept.append(points[-1])
    return kept
