"""The query parameters of series and summaries, checked: each refusal says what is supported."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query

from services.metrics.domain import COUNTED, HOUR, LATENCIES, METRICS
from shared.errors import ValidationFailed

__all__ = ["By", "Metric", "Range", "Span", "Step", "parse_by", "parse_metrics"]

_TIME = "RFC 3339 with an offset, or unix seconds"
_EARLIEST, _LATEST = 0, 4102444800  # 1970 to 2100

From = Annotated[
    str | None,
    Query(
        alias="from",
        max_length=40,
        description=f"begin of the range: {_TIME}; by default an hour before `to`",
        examples=["2026-11-20T19:00:00Z"],
    ),
]
To = Annotated[
    str | None,
    Query(alias="to", max_length=40, description=f"end of the range: {_TIME}; now by default", examples=["1795204800"]),
]
Step = Annotated[
    int | None,
    Query(
        ge=1,
        le=31 * 86400,
        description="seconds from point to point; raised to what the samples of that age allow (5 s, later 60 s, later"
        " an hour). At most 2,000 points. By default at most 240",
        examples=[60],
    ),
]
By = Annotated[list[str] | None, Query(description="split by these, repeated or comma-separated", max_length=10)]
Metric = Annotated[
    list[str] | None,
    Query(description="only these series, repeated or comma-separated: " + ", ".join(METRICS), max_length=20),
]


@dataclass(frozen=True, slots=True)
class Range:
    """Unix seconds."""

    start: float
    end: float
    now: float


def _range(start: From = None, end: To = None) -> Range:
    now = time.time()
    until = now if end is None else _instant(end, "query/to")
    since = until - HOUR if start is None else _instant(start, "query/from")
    return Range(since, until, now)


Span = Annotated[Range, Depends(_range)]
"""The range that the request asks for, the last hour by default. Raises ValidationFailed."""


def parse_by(given: Sequence[str] | None, supported: Sequence[str]) -> list[str]:
    return _chosen(given, supported, "query/by")


def parse_metrics(given: Sequence[str] | None, *, by: Sequence[str]) -> list[str]:
    """All that can be told of what `by` asks for, if none is named."""
    wanted = _chosen(given, METRICS, "query/metric")
    if "client" not in by:
        return wanted or list(METRICS)
    if any(name in LATENCIES for name in wanted):
        raise ValidationFailed.of("query/metric", "latencies are not told apart by client", supported=list(COUNTED))
    return wanted or list(COUNTED)


def _chosen(given: Sequence[str] | None, supported: Sequence[str], pointer: str) -> list[str]:
    names = [name.strip() for each in given or () for name in each.split(",")]
    if unknown := sorted({name for name in names if name not in supported}):
        message = f"{unknown[0][:60]!r} is not supported; {', '.join(supported)} are"
        raise ValidationFailed.of(pointer, message, supported=list(supported))
    return list(dict.fromkeys(names))


def _instant(text: str, pointer: str) -> float:
    # A plus that was not escaped in the address comes as a space.
    text = text.strip().replace(" ", "+")
    try:
        seconds = float(text)
    except ValueError:
        seconds = _rfc3339(text, pointer)
    if not math.isfinite(seconds) or not _EARLIEST <= seconds <= _LATEST:
        raise ValidationFailed.of(pointer, "must lie between 1970 and 2100")
    return seconds


def _rfc3339(text: str, pointer: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValidationFailed.of(pointer, f"must be {_TIME}") from None
