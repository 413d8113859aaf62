"""The only writer of samples from Envoy."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import String, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.metrics.domain import MINUTE, RAW, Owner, owner
from services.metrics.envoy import Reading
from services.metrics.increments import Increments
from shared.schema import Deployment, Rollup, ScrapeSource

__all__ = ["Source", "load_source", "pack", "store"]


class Source(NamedTuple):
    """What the samples hold of an Envoy already."""

    reading: Reading
    scraped_at: datetime


async def load_source(connection: AsyncConnection, url: str) -> Source | None:
    row = (await connection.execute(select(ScrapeSource).where(ScrapeSource.url == url))).one_or_none()
    if row is None:
        return None
    return Source(Reading.load(row.incarnation, zlib.decompress(row.reading)), row.scraped_at)


def pack(reading: Reading) -> bytes:
    """For `store`; apart, since it takes a while of a large reading."""
    return zlib.compress(reading.dump(), level=1)


async def store(
    connection: AsyncConnection,
    *,
    url: str,
    reading: Reading,
    packed: bytes,
    added: Increments,
    since: datetime | None,
) -> datetime:
    """Append `added` as samples of now, with the `reading` that they come from. Both or neither."""
    # Minutes that are rolled up are closed: this waits for a roll-up under way, and no other can begin before we end.
    closed = select(Rollup.until).where(Rollup.resolution == MINUTE).with_for_update(read=True)
    until: datetime = (await connection.execute(closed)).scalar_one()
    now: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    window = datetime.fromtimestamp(now.timestamp() // RAW * RAW, now.tzinfo)
    owners = await _owners(connection, added.deployments, since)
    await _append(connection, added, owners, at=max(window, until))
    values = {"incarnation": reading.incarnation, "reading": packed, "scraped_at": now}
    statement = insert(ScrapeSource).values(url=url, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["url"], set_=values))
    return now


async def _owners(connection: AsyncConnection, ids: set[str], since: datetime | None) -> Mapping[str, UUID]:
    """Whose requests these are: an id may have been deleted and given to another deployment."""
    columns = (Deployment.id, Deployment.uid, Deployment.created_at, Deployment.deleted_at)
    # One parameter, however many ids there are.
    known = select(*columns).where(Deployment.id == any_(bindparam("ids", type_=ARRAY(String))))
    candidates: dict[str, list[Owner]] = defaultdict(list)
    live = await connection.execute(known.where(Deployment.deleted_at.is_(None)), {"ids": list(ids)})
    for row in live:
        candidates[row.id].append(Owner(row.uid, row.created_at, row.deleted_at))
    # Only what has just changed needs a look at the deleted ones, of which there may be many.
    unsure = [each for each in ids if not candidates[each] or since is None or candidates[each][0].created_at > since]
    if unsure:
        for row in await connection.execute(known.where(Deployment.deleted_at.is_not(None)), {"ids": unsure}):
            candidates[row.id].append(Owner(row.uid, row.created_at, row.deleted_at))
    return {each: found.uid for each in ids if (found := owner(candidates[each], since=since))}


_REQUESTS = text("""
    INSERT INTO request_samples (uid, at, count, version, resolution, code, client)
    SELECT uid, :at, count, version, :resolution, code, client
    FROM unnest(CAST(:uids AS uuid[]), CAST(:counts AS bigint[]), CAST(:versions AS int[]), CAST(:codes AS smallint[]),
                CAST(:clients AS text[])) AS added (uid, count, version, code, client)
""")

# An array of arrays has to be a rectangle, so the bins come as text.
_LATENCIES = text("""
    INSERT INTO latency_samples (uid, at, version, resolution, code, bins, counts)
    SELECT uid, :at, version, :resolution, code, CAST(bins AS smallint[]), CAST(counts AS bigint[])
    FROM unnest(CAST(:uids AS uuid[]), CAST(:versions AS int[]), CAST(:codes AS smallint[]), CAST(:bins AS text[]),
                CAST(:counts AS text[])) AS added (uid, version, code, bins, counts)
""")


async def _append(connection: AsyncConnection, added: Increments, owners: Mapping[str, UUID], *, at: datetime) -> None:
    requests = [(owners[s.deployment], s, n) for s, n in added.requests.items() if n and s.deployment in owners]
    if requests:
        await connection.execute(
            _REQUESTS,
            {
                "at": at,
                "resolution": RAW,
                "uids": [uid for uid, _, _ in requests],
                "counts": [count for _, _, count in requests],
                "versions": [series.version for _, series, _ in requests],
                "codes": [series.code for _, series, _ in requests],
                "clients": [series.client for _, series, _ in requests],
            },
        )
    latencies = [(owners[s.deployment], s, h) for s, h in added.latencies.items() if h.total and s.deployment in owners]
    if latencies:
        await connection.execute(
            _LATENCIES,
            {
                "at": at,
                "resolution": RAW,
                "uids": [uid for uid, _, _ in latencies],
                "versions": [series.version for _, series, _ in latencies],
                "codes": [series.code for _, series, _ in latencies],
                "bins": [_array(histogram.counts.keys()) for _, _, histogram in latencies],
                "counts": [_array(histogram.counts.values()) for _, _, histogram in latencies],
            },
        )


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
