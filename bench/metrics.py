"""What counting costs, what quantiles err by, and how long queries take.

    python -m bench.metrics [errors] [scrape] [query]

`errors` needs nothing; `scrape` and `query` start a PostgreSQL of their own. The stats of Envoy are made here, as it
writes them; what Envoy itself takes for them is in docs/metrics.md.
"""

import asyncio
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import asyncpg
import numpy as np
from sqlalchemy import func, select

import migrations
from deploy.embedded.postgres import Postgres
from services.metrics import commands, exposition, queries
from services.metrics.domain import DAY, HOUR, MINUTE, RAW, TOTAL, grid, segments
from services.metrics.envoy import Reading, series
from services.metrics.histogram import Histogram, bin_of, bounds
from services.metrics.increments import increments
from services.metrics.queries import Scope
from services.metrics.rollup import roll_up
from shared.database import Sessions, create_engine, create_sessions
from shared.schema import Deployment
from tests.support.ports import free_port

SHARES = (0.5, 0.9, 0.95, 0.99)


# Errors of quantiles


def errors() -> None:
    """Of 100,000 latencies each; where in its decade a distribution lies decides how wide the bins are."""
    print("quantile error: mean / worst over 60 places within a decade")
    rng = np.random.default_rng(1)
    n = 100_000

    def bimodal() -> np.ndarray:
        return np.where(rng.random(n) < 0.9, rng.normal(1, 0.1, n), rng.normal(8, 0.8, n)).clip(0.1)

    shapes: dict[str, Callable[[], np.ndarray]] = {
        "lognormal, sigma 1": lambda: rng.lognormal(0, 1, n),
        "lognormal, sigma 0.5": lambda: rng.lognormal(0, 0.5, n),
        "lognormal, sigma 0.25": lambda: rng.lognormal(0, 0.25, n),
        "exponential + 0.2": lambda: 0.2 + rng.exponential(1, n),
        "uniform 0.5 to 1.5": lambda: rng.uniform(0.5, 1.5, n),
        "bimodal 1 / 8, 9:1": bimodal,
        "normal, sigma 5 %": lambda: rng.normal(1, 0.05, n).clip(0.1),
        "normal, sigma 1 %": lambda: rng.normal(1, 0.01, n),
        "constant": lambda: np.ones(n),
    }
    for name, shape in shapes.items():
        found = np.array([_errors(shape() * 10**place * 1000) for place in np.linspace(0, 1, 60)])
        columns = zip(SHARES, found.mean(0), found.max(0), strict=True)
        parts = [f"p{share * 100:g} {mean:.2%} / {worst:.2%}" for share, mean, worst in columns]
        print(f"  {name:24}", "   ".join(parts))


def _errors(latencies: np.ndarray) -> list[float]:
    values = latencies.astype(np.int64)
    unique, counts = np.unique(values, return_counts=True)
    histogram = Histogram()
    histogram.add([bin_of(int(value)) for value in unique], counts.tolist())
    found = histogram.quantiles(SHARES)
    exact = np.quantile(values, SHARES, method="inverted_cdf")
    return [abs(a - b) / b for a, b in zip(found or [], exact, strict=True)]


# Scrape and store


def body(endpoints: int, *, clients: int, rounds: int, active: float) -> bytes:
    """The stats after so many rounds of traffic to the first share of the endpoints, two versions each."""
    rng = random.Random(7)
    lines: list[str] = []
    for place in range(endpoints):
        name = f"deployment-{place}"
        for version in (1, 2):
            times = rounds if place < active * endpoints else 1
            base = f"deployment.{name}.version.{name}/{version}.code.200"
            lines += [f"moorage.requests.{base}.client.client-{each}: {20 * times}" for each in range(clients)]
            bins = sorted(rng.sample(range(240, 330), 25))
            written = ", ".join(f"{low:.0f},{high - low:.0f}:{times}" for low, high in map(bounds, bins))
            quantiles = " ".join(f"P{q}(nan,{q * 1000})" for q in (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100))
            lines.append(f"moorage.latency.{base}:\n  totals={written}\n  intervals={written}\n  summary={quantiles}")
    return ("\n".join([*lines, "server.live: 1"]) + "\n").encode()


async def scrape(url: str) -> None:
    engine = create_engine(url, application="bench", connections=4)
    print("scrape: take apart + compare + pack + store, in ms; two versions an endpoint, 25 bins each")
    for endpoints, clients, active in (
        (2000, 2, 1),
        (2000, 2, 0.05),
        (10_000, 2, 1),
        (10_000, 2, 0.05),
        (10_000, 5, 0.05),
    ):
        await _deploy(url, endpoints)
        first, *rest = (body(endpoints, clients=clients, rounds=rounds, active=active) for rounds in (1, 2, 3, 4))
        last = Reading("one", series(first))
        best: list[float] = []
        for each in rest:
            cpu, times = time.process_time(), [time.perf_counter()]
            now = Reading("one", series(each))
            times.append(time.perf_counter())
            added = increments(last, now)
            times.append(time.perf_counter())
            packed = commands.pack(now)
            times.append(time.perf_counter())
            async with engine.connect() as connection, connection.begin():
                await commands.store(connection, url="bench", reading=now, packed=packed, added=added, since=None)
            times.append(time.perf_counter())
            took = [1000 * (after - before) for before, after in pairwise(times)]
            if not best or sum(took) < sum(best[:4]):
                best = [*took, 1000 * (time.process_time() - cpu)]
            last = now
        print(
            f"  {endpoints:6} endpoints, {clients} clients, {active:4.0%} active, {len(first) / 1e6:4.1f} MB:",
            " + ".join(f"{part:.0f}" for part in best[:4]),
            f"= {sum(best[:4]):.0f} ms, {best[4]:.0f} of them CPU of ours; kept {len(packed) / 1e3:.0f} kB",
        )
    await engine.dispose()


# Queries

_TIMES = "generate_series(0, {seconds} - 1, {every}) t"
_WHO = "(SELECT uid FROM deployments ORDER BY length(id), id LIMIT {deployments}) d"
_FILL = (
    f"""
    INSERT INTO request_samples (uid, at, count, version, resolution, code, client)
    SELECT uid, date_bin('5 s', now() - make_interval(secs => t), 'epoch'), 20, v, 5, 200, 'client-' || c
    FROM {_WHO}, {_TIMES}, generate_series(1, 2) v, generate_series(1, 2) c
    """,
    f"""
    INSERT INTO latency_samples (uid, at, version, resolution, code, bins, counts)
    SELECT uid, date_bin('5 s', now() - make_interval(secs => t), 'epoch'), v, 5, 200,
           ARRAY(SELECT 240 + 5 * b + (t + v) % 5 FROM generate_series(0, 14) b), array_fill(3, ARRAY[15])
    FROM {_WHO}, {_TIMES}, generate_series(1, 2) v
    """,
)


async def query(url: str) -> None:
    """A day of 5 s samples of 20 busy deployments with two versions and clients; an hour by the minute of 2,000."""
    await _deploy(url, 2_000)
    connection = await asyncpg.connect(url)
    for statement in _FILL:
        for deployments, seconds, every in ((20, 86_400, 5), (2_000, 3_600, 60)):
            await connection.execute(statement.format(deployments=deployments, seconds=seconds, every=every))
    for table in ("request_samples", "latency_samples"):
        rows, size = await connection.fetchrow(f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}")
        print(f"query: {rows} {table}, {size / rows:.0f} bytes each with their indexes")
    await connection.execute("ANALYZE")
    engine = create_engine(url, application="bench", connections=4)
    sessions = create_sessions(engine)
    begun = time.perf_counter()
    for level in (MINUTE, HOUR, TOTAL):
        more = True
        while more:
            async with sessions.begin() as session:
                more = await roll_up(session, level)
    print(f"  rolling all of it up: {time.perf_counter() - begun:.1f} s")
    await connection.execute("VACUUM ANALYZE request_samples")
    await connection.execute("VACUUM ANALYZE latency_samples")
    uid = await connection.fetchval("SELECT uid FROM deployments WHERE id = 'deployment-0'")
    await connection.close()
    one, everything = Scope(uid=uid), Scope()
    await _ask(sessions, "a deployment, an hour, by version", one, span=HOUR, by=("version",))
    await _ask(sessions, "a deployment, an hour, by version and client", one, span=HOUR, by=("version", "client"))
    await _ask(sessions, "a deployment, a day, by version", one, span=DAY, by=("version",))
    await _ask(sessions, "a deployment, a day in 1,911 points", one, span=86_000, by=("version",), step=45)
    await _ask(sessions, "platform, an hour", everything, span=HOUR, finest=MINUTE)
    await _ask(sessions, "platform, a day", everything, span=DAY, finest=MINUTE)
    await _ask(sessions, "platform, a day by the hour", everything, span=DAY, step=HOUR, finest=MINUTE)
    begun = time.perf_counter()
    size = len(await exposition.endpoints(sessions))
    print(f"  /metrics of 2,000 deployments: {(time.perf_counter() - begun) * 1000:.0f} ms, {size / 1e6:.1f} MB")
    await engine.dispose()


async def _ask(
    sessions: Sessions,
    name: str,
    scope: Scope,
    *,
    span: float,
    by: Sequence[str] = (),
    step: int | None = None,
    finest: int = RAW,
) -> None:
    took = []
    for _ in range(5):
        now = time.time()
        kept = {RAW: 2.0 * DAY, MINUTE: 30.0 * DAY, HOUR: 730.0 * DAY}
        points = grid(start=now - span, end=now, step=step, now=now, kept=kept, finest=finest)
        begun = time.perf_counter()
        async with sessions() as session:
            parts = segments(points, await queries.rolled_up(session))
            await queries.counts(session, scope=scope, segments=parts, step=points.step, by=by)
            counted = time.perf_counter()
            if "client" not in by:
                await queries.histograms(session, scope=scope, segments=parts, step=points.step, by=by)
        took.append((1000 * (counted - begun), 1000 * (time.perf_counter() - counted)))
    counts, latencies = sorted(took)[2]
    print(f"  {name:46} step {points.step:4} s: counts {counts:6.0f} ms, latencies {latencies:6.0f} ms")


async def _deploy(url: str, count: int) -> None:
    connection = await asyncpg.connect(url)
    group = (
        "INSERT INTO groups (id, name, deployment_enabled, version) VALUES ('g', 'g', true, 1) ON CONFLICT DO NOTHING"
    )
    await connection.execute(group)
    await connection.close()
    engine = create_engine(url, application="bench", connections=2)
    async with create_sessions(engine).begin() as session:
        known = (await session.execute(select(func.count()).select_from(Deployment))).scalar_one()
        common = {"group_id": "g", "name": "x", "spec": {}, "created_by": "x", "updated_by": "x"}
        session.add_all(Deployment(uid=uuid4(), id=f"deployment-{n}", **common) for n in range(known, count))
    await engine.dispose()


@contextmanager
def postgres() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(data=Path(folder) / "data", port=free_port(), password=uuid4().hex)
        server.initialise()
        process = subprocess.Popen(server.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        try:
            asyncio.run(_answers(server.url))
            migrations.upgrade(server.url)
            yield server.url
        finally:
            process.send_signal(2)
            process.wait(30)


async def _answers(url: str) -> None:
    while True:
        try:
            await (await asyncpg.connect(url)).close()
            return
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.1)


def main(wanted: Sequence[str]) -> None:
    if "errors" in wanted:
        errors()
    for name, measure in (("scrape", scrape), ("query", query)):
        if name in wanted:
            with postgres() as url:
                asyncio.run(measure(url))
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:] or ("errors", "scrape", "query"))
