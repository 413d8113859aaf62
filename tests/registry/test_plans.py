"""The registry's queries use their indexes where there is something to search through: 10,000 models, 60,000 versions.

PostgreSQL says itself how it did what the HTTP requests have asked for (auto_explain would need a preload, so each
statement is caught on its way and explained with what it was given). No planner setting is changed: a sequential scan
is what it would choose if the index were missing or unfit.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection

from tests.registry.seed import Size, seed
from tests.registry.world import Headers, Registry, running_registry

SIZE = Size(groups=200, models=10_000, versions=6, deployments=3000)
LARGE = ("models", "model_versions", "blobs", "blob_uploads", "deployments", "revisions", "model_aliases")
MINE = 40

LISTS = [
    "",
    "group=g0",
    "group=g199",
    "group=g3&group=g70",
    "framework=sklearn",
    "framework=custom",
    "framework=custom&framework=onnx",
    "tag=tag0",
    "tag=tag250",
    "tag=tag0&tag=tag7",
    "mine=true",
    "q=churn",
    "q=word2900",
    "q=wor",
    "q=churn word0",
    "q=5000",
    "q=nothinglikethis",
    "q=word3&group=g0",
    "q=churn&framework=custom",
]


class Watched:
    """Statements of the application, with their parameters, caught while `on`."""

    def __init__(self, registry: Registry) -> None:
        self.on = False
        self.caught: list[tuple[str, Any]] = []
        event.listen(registry.core.engine.sync_engine, "before_cursor_execute", self._catch)

    def _catch(self, _: Connection, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if self.on:
            self.caught.append((statement, parameters))


@pytest.fixture
async def seeded(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[tuple[Registry, Watched]]:
    await seed(environment["MOORAGE_DATABASE_URL"], SIZE)
    async with running_registry(environment, tmp_path) as registry:
        yield registry, Watched(registry)


def _scanned_whole(plan: dict[str, Any]) -> list[str]:
    """Tables that were read from end to end."""
    found = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] in LARGE else []
    return found + [table for below in plan.get("Plans", ()) for table in _scanned_whole(below)]


async def _explain(registry: Registry, statement: str, parameters: Any) -> dict[str, Any]:
    async with registry.core.engine.connect() as connection:
        answer = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        document = answer.scalar_one()
        await connection.rollback()
    plan: dict[str, Any] = (json.loads(document) if isinstance(document, str) else document)[0]["Plan"]
    return plan


async def _check(registry: Registry, watched: Watched, method: str, path: str, *, by: Headers, body: Any = None) -> int:
    """How many statements were looked at."""
    watched.caught.clear()
    watched.on = True
    answer = await registry.call(method, path, body, by=by)
    watched.on = False
    assert answer.is_success, answer.text
    looked = [each for each in watched.caught if each[0].lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
    for statement, parameters in looked:
        plan = await _explain(registry, statement, parameters)
        assert _scanned_whole(plan) == [], f"{path}\n{statement}\n{json.dumps(plan, indent=1)[:6000]}"
    return len(looked)


async def test_every_query_uses_its_indexes(seeded: tuple[Registry, Watched]) -> None:
    registry, watched = seeded
    user = await registry.people.add("u0", groups=[(f"g{number * 7}", "edit") for number in range(MINE)])
    looked = 0
    for by in (registry.admin, user):
        for query in LISTS:
            for sort in ("name", "-created_at", "-updated_at"):
                looked += await _check(registry, watched, "GET", f"/models?sort={sort}&{query}", by=by)
    for sort, index in (("name", "group_id_name"), ("-updated_at", "updated_at_id")):
        await _check(
            registry, watched, "GET", f"/models?framework=custom&framework=onnx&sort={sort}", by=registry.admin
        )
        plan = json.dumps(await _explain(registry, *watched.caught[-1]))
        assert plan.count(f'"ix_models_framework_{index}"') == 2, plan  # each of them as far as the page reaches
    first = (await registry.call("GET", "/models?group=g0&limit=1", by=registry.admin)).json()["items"][0]
    model = f"/models/g0/{first['name']}"
    body = {"artifact": await registry.uploaded(b"model"), "curves": {"loss": [[1, 2], [2, 1]]}}
    for method, path, given in (
        ("GET", model, None),
        ("GET", f"{model}/versions", None),
        ("GET", f"{model}/versions/1", None),
        ("GET", "/instance-types", None),
        ("GET", "/groups/g150/quota", None),
        ("POST", f"{model}/versions", body),
        ("PUT", f"{model}/runs/new", body),
        ("PUT", f"{model}/runs/new", body),
        ("PATCH", model, {"aliases": {"champion": 1}, "tags": ["x"]}),
        ("DELETE", f"{model}/versions/{first['latest'] + 1}", None),
    ):
        looked += await _check(registry, watched, method, path, by=registry.admin, body=given)
    assert looked > 2 * len(LISTS) * 3
    watched.caught.clear()
    watched.on = True
    await registry.app.state.collector.collect()
    watched.on = False
    blobs = [each for each in watched.caught if "FROM blobs" in each[0]]
    assert len(blobs) > 10
    for statement, parameters in blobs[
        :10
    ]:  # it goes over all blobs, but not over all versions for each of its batches
        scanned = _scanned_whole(await _explain(registry, statement, parameters))
        assert {"model_versions", "revisions"}.isdisjoint(scanned), statement
