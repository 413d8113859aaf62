"""Every SELECT on samples. The statements are put together from the fixed pieces here; values are parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from services.metrics.domain import Segment
from shared.schema import Deployment, Rollup

__all__ = ["Labels", "Scope", "counts", "find_deployment", "histograms", "rolled_up"]

Labels = tuple[Any, ...]
"""The values of what a query groups by, in its order."""

_LABEL = {
    "version": "s.version",
    "client": "s.client",
    "code": "s.code",
    "group": "d.group_id",
    "deployment": "d.id",
    # An id may have been given again after a deletion: numbers stay apart.
    "uid": "s.uid",
}

_REQUESTS = """
    SELECT {time} AS time, s.code, CAST(sum(s.count) AS bigint){labels}
    FROM request_samples s {join}
    WHERE {where}
    GROUP BY time, s.code{names}
"""
_LATENCIES = """
    SELECT time, array_agg(bin), array_agg(count){names}
    FROM (SELECT {time} AS time, h.bin, CAST(sum(h.count) AS bigint) AS count{labels}
          FROM latency_samples s {join}, unnest(s.bins, s.counts) AS h (bin, count)
          WHERE {where}
          GROUP BY time, h.bin{names}) AS merged
    GROUP BY time{names}
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose requests; None restricts nothing. `visible` is what the caller may see."""

    uid: UUID | None = None
    visible: frozenset[str] | None = None
    groups: Sequence[str] | None = None
    deployments: Sequence[str] | None = None


async def find_deployment(session: AsyncSession, id_: str) -> Deployment | None:
    """The live deployment of this id; if there is none, the one that had it last."""
    found = select(Deployment).where(Deployment.id == id_)
    latest = found.order_by(Deployment.deleted_at.desc().nulls_first()).limit(1)
    return (await session.execute(latest)).scalar_one_or_none()


async def rolled_up(session: AsyncSession) -> Mapping[int, datetime]:
    """Read before the samples: what is rolled up meanwhile is still there in the finer samples."""
    rows = await session.execute(select(Rollup.resolution, Rollup.until))
    return {row.resolution: row.until for row in rows}


async def counts(
    session: AsyncSession, *, scope: Scope, segments: Sequence[Segment], step: int | None, by: Sequence[str]
) -> list[tuple[Labels, int, int, int]]:
    """Labels, time (unix seconds; 0 without a step), status code, requests; no rows where there were none."""
    statement = _Statement(scope, segments, step, by)
    rows = await session.execute(statement.requests, statement.values)
    return [(tuple(labels), time, code, count) for time, code, count, *labels in rows]


async def histograms(
    session: AsyncSession, *, scope: Scope, segments: Sequence[Segment], step: int | None, by: Sequence[str]
) -> list[tuple[Labels, int, Sequence[int], Sequence[int]]]:
    """Labels, time, bins and their counts, merged.

    4xx are left out, unless by code: refusing a request takes no time and would flatter the model.
    """
    statement = _Statement(scope, segments, step, by)
    rows = await session.execute(statement.latencies, statement.values)
    return [(tuple(labels), time, bins, found) for time, bins, found, *labels in rows]


class _Statement:
    def __init__(self, scope: Scope, segments: Sequence[Segment], step: int | None, by: Sequence[str]) -> None:
        self.values: dict[str, Any] = {}
        self._by = by
        self._time = "CAST(0 AS bigint)"
        if step is not None:
            width = self._value(timedelta(seconds=step))
            self._time = f"CAST(extract(epoch FROM date_bin({width}, at, 'epoch')) AS bigint)"
        within = [  # never empty: a grid has a point at least
            f"s.resolution = {self._value(part.resolution)}"
            f" AND s.at >= {self._value(part.start)} AND s.at < {self._value(part.end)}"
            for part in segments
        ]
        self._where = [f"(({') OR ('.join(within)}))", *self._scope(scope)]

    @property
    def requests(self) -> TextClause:
        return self._text(_REQUESTS)

    @property
    def latencies(self) -> TextClause:
        return self._text(_LATENCIES, *(() if "code" in self._by else ("s.code NOT BETWEEN 400 AND 499",)))

    def _scope(self, scope: Scope) -> Iterator[str]:
        if scope.uid is not None:
            yield f"s.uid = {self._value(scope.uid)}"
        for column, allowed in (
            ("d.group_id", scope.visible),
            ("d.group_id", scope.groups),
            ("d.id", scope.deployments),
        ):
            if allowed is not None:
                yield f"{column} = ANY ({self._value(list(allowed))})"

    def _text(self, template: str, *conditions: str) -> TextClause:
        where = " AND ".join([*self._where, *conditions])
        labels = "".join(f", {_LABEL[each]} AS by_{each}" for each in self._by)
        names = "".join(f", by_{each}" for each in self._by)
        join = "JOIN deployments d ON d.uid = s.uid" if "d." in where + labels else ""
        return text(template.format(time=self._time, where=where, labels=labels, names=names, join=join))

    def _value(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"
