"""Series and summaries by HTTP: the right figures, to those who may see them, and clear refusals."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, insert, text, update

from services.metrics.app import create
from services.metrics.histogram import Histogram
from shared.database import Sessions
from shared.schema import Deployment, latency_samples, request_samples
from tests.metrics.conftest import Deploy
from tests.support.ports import free_port
from tests.support.services import People, serving

HOUR_AGO = datetime.fromtimestamp(datetime.now(UTC).timestamp() // 300 * 300 - 3600, UTC)
"""On the grid of every step used here."""


@dataclass
class Service:
    http: httpx.AsyncClient
    people: People
    sessions: Sessions

    async def get(self, path: str, headers: dict[str, str], **query: Any) -> Any:
        answer = await self.http.get(f"/api/v1{path}", params={"from": HOUR_AGO.isoformat(), **query}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, path: str, headers: dict[str, str], **query: Any) -> Any:
        answer = await self.http.get(f"/api/v1{path}", params=query, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()

    async def write(
        self, uid: UUID, count: int, *, minute: int = 0, version: int = 1, code: int = 200, client: str = "ana",
        microseconds: int = 5_000,
    ) -> None:  # fmt: skip
        at = HOUR_AGO + timedelta(minutes=minute)
        row = {"uid": uid, "at": at, "version": version, "resolution": 5, "code": code}
        bins = Histogram.of([microseconds] * count).counts
        async with self.sessions.begin() as session:
            # The service runs, and has closed that time: open it again, to be rolled up anew at any moment. In real
            # life `until` never falls, so a roll-up must not have read it before.
            await session.execute(text("LOCK TABLE rollups IN ACCESS EXCLUSIVE MODE"))
            await session.execute(text("UPDATE rollups SET until = 'epoch'"))
            for table in (request_samples, latency_samples):
                await session.execute(delete(table).where(table.c.resolution != 5))
            await session.execute(insert(request_samples).values(**row, client=client, count=count))
            await session.execute(insert(latency_samples).values(**row, bins=[*bins], counts=[*bins.values()]))


@pytest.fixture
async def service(
    environment: dict[str, str], sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name, value in {**environment, "MOORAGE_ENVOY_ADMIN_URL": nobody}.items():
        monkeypatch.setenv(name, value)
    _, app = create()
    async with serving(app) as http:
        yield Service(http, People.of(app), sessions)


@pytest.fixture
async def ana(service: Service) -> dict[str, str]:
    return await service.people.add("ana", groups=[("risk", "read")])


def values(answer: Any, metric: str, **labels: Any) -> list[Any]:
    """The points of the one series with this metric and these labels, without those where nothing happened."""
    (series,) = (s for s in answer["series"] if s["metric"] == metric and s["labels"] == labels)
    return [value for _, value in series["points"] if value]


async def test_series_split_by_version_and_client(service: Service, deploy: Deploy, ana: dict[str, str]) -> None:
    churn, other = await deploy("churn"), await deploy("other")
    await service.write(churn, 90)
    await service.write(churn, 6, minute=5, code=404)
    await service.write(churn, 30, minute=5, version=2, client="ben")
    await service.write(churn, 10, minute=5, version=2, code=500, client="ben")
    await service.write(other, 1000)

    answer = await service.get("/deployments/churn/metrics", ana, step=60, by="version,client")
    assert answer["step"] == 60
    assert values(answer, "requests_per_second", version=1, client="ana") == [1.5, 0.1]
    assert values(answer, "requests_per_second", version=2, client="ben") == [pytest.approx(40 / 60)]
    assert values(answer, "success_rate", version=2, client="ben") == [0.75]
    assert values(answer, "client_errors", version=1, client="ana") == [6]
    assert values(answer, "server_errors", version=2, client="ben") == [10]
    assert {s["metric"] for s in answer["series"]} == {
        "requests_per_second", "success_rate", "client_errors", "server_errors",
    }  # fmt: skip
    assert answer["summary"]["requests"] == 136
    assert answer["summary"]["latency_p50"] == pytest.approx(0.005, rel=0.02)

    whole = await service.get("/deployments/churn/metrics", ana, step=3600)
    assert sum(values(whole, "server_errors")) == 10


async def test_points_are_aligned_and_say_when_nothing_happened(
    service: Service, deploy: Deploy, ana: dict[str, str]
) -> None:
    churn = await deploy("churn")
    await service.write(churn, 3, minute=10, microseconds=42_000)
    until = HOUR_AGO + timedelta(minutes=20)
    answer = await service.get("/deployments/churn/metrics", ana, step=300, to=until.isoformat())
    of = {series["metric"]: series["points"] for series in answer["series"]}
    assert [point[0] for point in of["latency_p99"]] == [
        (HOUR_AGO + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ") for minute in (0, 5, 10, 15)
    ]
    assert [point[1] for point in of["requests_per_second"]] == [0, 0, 0.01, 0]
    assert [point[1] for point in of["success_rate"]] == [None, None, 1, None]
    assert [point[1] for point in of["latency_p99"]] == [None, None, pytest.approx(0.042, rel=0.025), None]
    unix = await service.get("/deployments/churn/metrics", ana, step=300, to=str(until.timestamp()))
    assert unix == answer


async def test_refused_requests_do_not_flatter_the_latency(
    service: Service, deploy: Deploy, ana: dict[str, str]
) -> None:
    churn = await deploy("churn")
    await service.write(churn, 10, microseconds=80_000)
    await service.write(churn, 90, code=401, client="", microseconds=50)
    answer = await service.get("/deployments/churn/metrics", ana, step=300, metric="latency_p50")
    assert values(answer, "latency_p50") == [pytest.approx(0.08, rel=0.02)]
    by_code = await service.get("/deployments/churn/metrics", ana, step=300, metric="latency_p50", by="code")
    assert values(by_code, "latency_p50", code=401) == [pytest.approx(0.00005, rel=0.05)]


async def test_summary_of_a_deployment(service: Service, deploy: Deploy, ana: dict[str, str]) -> None:
    churn = await deploy("churn")
    await service.write(churn, 900)
    await service.write(churn, 50, version=2, client="ben", microseconds=20_000)
    await service.write(churn, 30, version=2, client="ben", code=500)
    await service.write(churn, 20, version=0, client="", code=401)
    answer = await service.get("/deployments/churn/metrics/summary", ana)
    total = answer["total"]
    assert (total["requests"], total["successes"], total["client_errors"], total["server_errors"]) == (
        1000,
        950,
        20,
        30,
    )
    assert total["success_rate"] == 0.95
    assert answer["codes"] == {"200": 950, "401": 20, "500": 30}
    assert [(v["version"], v["requests"]) for v in answer["versions"]] == [(None, 20), (1, 900), (2, 80)]
    assert [(c["client"], c["requests"]) for c in answer["clients"]] == [(None, 20), ("ana", 900), ("ben", 80)]
    assert answer["versions"][0]["latency_p50"] is None
    assert answer["versions"][2]["latency_p50"] == pytest.approx(0.02, rel=0.05)


async def test_the_platform_shows_each_what_they_may_see(service: Service, deploy: Deploy, ana: dict[str, str]) -> None:
    churn, fraud = await deploy("churn"), await deploy("fraud", group="crime")
    await service.write(churn, 10)
    await service.write(fraud, 25)
    admin = await service.people.add("root", admin=True)
    mine, everything = [await service.get("/metrics/summary", who) for who in (ana, admin)]
    assert mine["total"]["requests"] == 10
    assert everything["total"]["requests"] == 35
    assert [each["deployment"] for each in everything["deployments"]] == ["fraud", "churn"]
    answer = await service.get("/metrics", admin, by="group,deployment", step=3600, group="crime")
    labels = {"group": "crime", "deployment": "fraud", "uid": str(fraud)}
    assert sum(values(answer, "requests_per_second", **labels)) == pytest.approx(25 / 3600)
    assert {series["labels"]["group"] for series in answer["series"]} == {"crime"}
    assert (await service.get("/metrics", ana, group="crime"))["summary"]["requests"] == 0


async def test_who_may_not_see_it_cannot_tell_that_it_is_there(service: Service, deploy: Deploy) -> None:
    await deploy("churn")
    eve = await service.people.add("eve", groups=[("crime", "manage")])
    for path in ("/deployments/churn/metrics", "/deployments/none/metrics", "/deployments/churn/metrics/summary"):
        answer = await service.http.get(f"/api/v1{path}", headers=eve)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await service.http.get(f"/api/v1{path}")).status_code == 401


async def test_a_deleted_deployment_answers_until_its_id_is_given_again(
    service: Service, deploy: Deploy, ana: dict[str, str]
) -> None:
    old = await deploy("churn")
    await service.write(old, 5)
    async with service.sessions.begin() as session:
        await session.execute(update(Deployment).values(deleted_at=datetime.now(UTC)))
    assert (await service.get("/deployments/churn/metrics/summary", ana))["total"]["requests"] == 5
    new = await deploy("churn")
    await service.write(new, 2)
    assert (await service.get("/deployments/churn/metrics/summary", ana))["total"]["requests"] == 2


BAD_QUERIES: list[tuple[dict[str, str], str]] = [
    ({"by": "replica"}, "query/by"),
    ({"by": "version,"}, "query/by"),
    ({"metric": "cpu"}, "query/metric"),
    ({"metric": "latency_p50", "by": "client"}, "query/metric"),
    ({"from": "yesterday"}, "query/from"),
    ({"from": "2026-11-20T19:00:00"}, "query/from"),
    ({"from": "nan"}, "query/from"),
    ({"from": "1e300"}, "query/from"),
    ({"from": "-5"}, "query/from"),
    ({"from": "4000000000"}, "query/to"),
    ({"from": "4000000000", "to": "4000000001"}, "query/from"),
    ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "query/to"),
    ({"from": "0", "to": "0"}, "query/to"),
    ({"step": "0"}, "query/step"),
    ({"step": "1.5"}, "query/step"),
    ({"step": "60", "from": "2026-01-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "query/step"),
]


async def test_bad_queries_are_refused_by_name(service: Service, deploy: Deploy, ana: dict[str, str]) -> None:
    await deploy("churn")
    for query, pointer in BAD_QUERIES:
        problem = await service.refused("/deployments/churn/metrics", ana, **query)
        assert problem["errors"][0]["pointer"] == pointer, query
    problem = await service.refused("/deployments/churn/metrics", ana, by="replica")
    assert problem["supported"] == ["version", "client", "code"]
