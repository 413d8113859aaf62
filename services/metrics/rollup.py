"""Rolls samples up: of 5 s to minutes, of minutes to hours and to totals; deletes what is older than it is kept.

A window is rolled up once: its rows and the new `until` of its level are one transaction, under the lock of the level's
row. Scrapes write only from the minutes' `until` on (they hold that row's lock too), so a closed window stays closed.
`until` only ever rises: who waited for the lock may have seen an older one of its source, and then does less, not more.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.metrics.domain import HOUR, MINUTE, RAW, TOTAL
from shared.database import Sessions, is_disconnect
from shared.telemetry import get_logger

__all__ = ["delete_old", "keep_rolling", "roll_up"]

log = get_logger(__name__)

DELETED = Counter("moorage_samples_deleted_total", "Samples that were kept long enough", ["resolution"])

# level: out of which, and how much at a time (seconds). Little, since there may be thousands of endpoints and a
# statement may take 15 s; hours and totals grow by what is merged into them.
_LEVELS = {MINUTE: (RAW, MINUTE), HOUR: (MINUTE, 10 * MINUTE), TOTAL: (MINUTE, 10 * MINUTE)}

_LAG = timedelta(seconds=10)
"""How long a minute is left open after its end, for the last scrape to arrive."""

_NEXT = text("""
    SELECT level.until AS begin,
        least(
            date_bin(CAST(:window AS interval), coalesce(source.until, now() - CAST(:lag AS interval)), 'epoch'),
            -- After a long time without samples there is nothing to roll up until the first.
            greatest(level.until, coalesce(
                (SELECT date_bin(CAST(:window AS interval), min(at), 'epoch') FROM request_samples
                 WHERE resolution = :source AND at >= level.until),
                'infinity')) + CAST(:window AS interval)
        ) AS until
    FROM rollups level LEFT JOIN rollups source ON source.resolution = :source
    WHERE level.resolution = :level FOR UPDATE OF level
""")

_BUCKET = {
    MINUTE: "date_bin('1 minute', {at}, 'epoch')",
    HOUR: "date_bin('1 hour', {at}, 'epoch')",
    TOTAL: "timestamptz 'epoch'",
}

# What a bucket holds already is taken out, added to, and put back.
_SAMPLES = """
    WITH new AS (SELECT * FROM {table} WHERE resolution = :source AND at >= :begin AND at < :until),
    old AS (DELETE FROM {table} WHERE resolution = :level AND at >= {first} AND at < :until
            AND uid IN (SELECT uid FROM new) RETURNING *),
    samples AS (SELECT * FROM new UNION ALL SELECT * FROM old)
"""
_REQUESTS = """
    INSERT INTO request_samples (uid, at, count, version, resolution, code, client)
    SELECT uid, {bucket} AS bucket, sum(count), version, :level, code, client
    FROM samples GROUP BY uid, bucket, version, code, client
"""
_LATENCIES = """
    INSERT INTO latency_samples (uid, at, version, resolution, code, bins, counts)
    SELECT uid, bucket, version, :level, code, array_agg(bin), array_agg(count)
    FROM (SELECT uid, {bucket} AS bucket, version, code, bin, sum(count) AS count
          FROM samples, unnest(bins, counts) AS histogram (bin, count)
          GROUP BY uid, bucket, version, code, bin) AS merged
    GROUP BY uid, bucket, version, code
"""


async def roll_up(session: AsyncSession, level: int) -> bool:
    """Roll the next window of a level up; whether there was one, so that there may be more."""
    source, seconds = _LEVELS[level]
    values = {"level": level, "source": source, "window": timedelta(seconds=seconds), "lag": _LAG}
    row = (await session.execute(_NEXT, values)).one()
    if row.until <= row.begin:
        return False
    span = {"level": level, "source": source, "begin": row.begin, "until": row.until}
    for table, merge in (("request_samples", _REQUESTS), ("latency_samples", _LATENCIES)):
        first = _BUCKET[level].format(at="CAST(:begin AS timestamptz)")
        statement = _SAMPLES.format(table=table, first=first) + merge.format(bucket=_BUCKET[level].format(at="at"))
        await session.execute(text(statement), span)
    await session.execute(text("UPDATE rollups SET until = :until WHERE resolution = :level"), span)
    return True


async def delete_old(session: AsyncSession, resolution: int, *, kept: timedelta, most: int = 50_000) -> bool:
    """Delete samples that are older than `kept` and rolled up for good; whether there may be more."""
    deleted = 0
    for table in ("request_samples", "latency_samples"):
        result = await session.execute(
            text(f"""
                DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {table}
                    WHERE resolution = :resolution
                      AND at < least(now() - CAST(:kept AS interval), (SELECT min(until) FROM rollups
                                                     WHERE resolution > :resolution OR resolution = 0))
                    ORDER BY at LIMIT :most))
            """),  # noqa: S608  # one of two names above
            {"resolution": resolution, "kept": kept, "most": most},
        )
        deleted = max(deleted, result.rowcount)  # type: ignore[attr-defined]  # a DELETE answers with a CursorResult
    DELETED.labels(resolution).inc(deleted)
    return deleted == most


async def keep_rolling(sessions: Sessions, *, kept: Mapping[int, timedelta], every: float = 5) -> None:
    """Until it is cancelled. Any number of processes may."""
    while True:
        try:
            more = False
            for level in _LEVELS:
                async with sessions.begin() as session:
                    more |= await roll_up(session, level)
            for resolution, age in kept.items():
                async with sessions.begin() as session:
                    more |= await delete_old(session, resolution, kept=age)
        except Exception as error:
            if not is_disconnect(error):
                raise
            more = False
            log.warning("rollup.database_away", error=str(error))
        await asyncio.sleep(0 if more else every)
