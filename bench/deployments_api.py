"""How long the deployments API takes: creating a deployment, and any page of a list of 20,000 with any filter.

    .venv/bin/python -m bench.deployments_api [--creates 200] [--rows 20000] [--json figures.json]

The deployer is a process of its own (uvicorn, as in production), PostgreSQL too, with fsync on. Its platform does
nothing, so that no replicas compete for the processor. The ratio compares with `GET /runtimes`, which only checks the
token.
"""

import argparse
import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import asyncpg
import httpx

import migrations
from bench.service import getting, report, serving, timed
from services.deployer.platforms import Capabilities
from shared.database import create_engine, create_sessions
from shared.http.pages import encode_cursor
from shared.schema import InstanceType, Model, ModelVersion
from tests.support.postgres import Server, database_folder
from tests.support.services import People

GROUPS, USERS = 40, 50
PAUSE = 0.1
"""Seconds between two writes, so that the second does not wait for what the first has set in motion."""
FLOOR = "floor: GET /runtimes"
SHOWN = 6
"""So many of the slowest list queries are in the table."""
GOALS = {"create": ("p50", 15.0), "list": ("p95", 20.0)}

SEED = f"""
INSERT INTO deployments (uid, id, group_id, name, spec, stopped, generation, revision, last_version, message,
    reserved_cpu, reserved_memory, reserved_gpu, created_by, updated_by, created_at, updated_at, phase,
    observed_generation, settled, conditions, version_status, endpoints_generation)
SELECT gen_random_uuid(), 'service-' || lpad(n::text, 5, '0'), 'g' || n % {GROUPS},
    (ARRAY['Churn', 'Fraud', 'Scoring', 'Ranking', 'Pricing', 'Vision', 'Words'])[1 + n % 7] || ' of ' || md5(n::text),
    $1::jsonb, false, 3, 3, 2, 'seeded', 2, 1073741824, 0, 'u' || n % {USERS}, 'u' || n % {USERS},
    now() - n * interval '1 minute', now() - (n * 7919 % 20011) * interval '1 second',
    CASE WHEN n % 100 = 0 THEN 'Failed' WHEN n % 10 = 0 THEN 'Stopped' ELSE 'Deployed' END,
    3, true, $2::jsonb, $3::jsonb, 4
FROM generate_series(1, $4::int) n
"""


class NoPlatform:
    """Runs nothing, and says so."""

    capabilities = Capabilities(containers=True)
    trouble = None

    async def known(self) -> None: ...

    async def apply(self, workload: object) -> None: ...

    async def observe(self, _: UUID) -> list[Any]:
        return []

    async def delete(self, *_: object) -> None: ...

    async def deployments(self) -> set[UUID]:
        return set()

    async def versions(self, _: UUID) -> set[int]:
        return set()

    async def addresses(self, _: UUID) -> dict[int, tuple[str, ...]]:
        return {}

    async def watch(self) -> AsyncIterator[UUID]:
        await asyncio.Event().wait()
        yield UUID(int=0)


def serve() -> None:
    """The deployer's process."""
    from services.deployer.app import create_with
    from services.deployer.platforms import Platform
    from services.deployer.settings import DeployerSettings
    from shared.service import Core, run

    settings = DeployerSettings()
    core = Core(settings, service="deployer")
    platform = cast(AbstractAsyncContextManager[Platform], nullcontext(NoPlatform()))
    run("deployer", lambda: (settings, create_with(settings, core=core, platform=platform)))


async def seed(url: str, *, rows: int) -> dict[str, str]:
    """Groups, models, users, and so many deployments; the headers of an admin."""
    engine = create_engine(url, application="bench", connections=2)
    people = People(create_sessions(engine))
    groups = [(f"g{number}", "edit") for number in range(GROUPS)]
    await people.add("u0", groups=[*groups, ("bench", "edit")])
    admin = await people.add("root", admin=True)
    async with create_sessions(engine).begin() as session:
        session.add(InstanceType(id="small", name="small", cpu=1, memory=2**30))
        model = Model(group_id="bench", name="churn", latest=1, created_by="u0")
        session.add(model)
        await session.flush()
        digest = f"sha256:{0:064x}"
        version = {"artifact": f"registry://{digest}", "digest": digest, "size": 1, "created_by": "u0"}
        session.add(ModelVersion(model_id=model.id, number=1, **version))
    await engine.dispose()
    spec, conditions, status = document()
    connection = await asyncpg.connect(url)
    await connection.execute(SEED, json.dumps(spec), json.dumps(conditions), json.dumps(status), rows)
    await connection.execute(
        "INSERT INTO routes (uid, generation, endpoints_generation, weights)"
        ' SELECT uid, 3, 4, \'{"1": 90, "2": 10}\'::jsonb FROM deployments'
    )
    await connection.execute("VACUUM ANALYZE deployments")
    await connection.execute("ANALYZE routes")
    await connection.close()
    return {"root": admin["Authorization"], "u0": people.headers("u0")["Authorization"]}


def document() -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Spec, conditions and status of a deployment of the usual size, two versions."""
    digest = f"sha256:{0:064x}"
    version = {
        "model": "bench/churn/1", "alias": None, "digest": digest, "artifact": f"registry://{digest}", "size": 1,
        "framework": "sklearn", "runtime": "inference", "instance_type": "small",
        "resources": {"cpu": 1.0, "memory": 2**30, "gpu": 0.0, "gpu_model": None},
        "replicas": {"min": 1, "max": 2}, "env": {"THREADS": "1", "LOG": "info"}, "restart": 0,
    }  # fmt: skip
    spec = {
        "name": "Churn", "description": "Who is about to leave, from last month's usage.", "stage": "production",
        "metadata": {"team": "retention", "cost-centre": "4711"}, "access": "private",
        "versions": [{**version, "number": 1}, {**version, "number": 2}],
        "traffic": {"weights": {"1": 90, "2": 10}}, "progress_deadline": 600,
    }  # fmt: skip
    conditions = [
        {"type": kind, "status": "True", "reason": "Fine", "message": "It is as it should be.", "since": "2026-01-01"}
        for kind in ("Ready", "Progressing", "RoutesEnforced")
    ]
    status = [
        {
            "number": number, "phase": "Deployed", "ready": 1, "wanted": 1, "model": "bench/churn/1", "digest": digest,
            "failure": None, "template": f"{0:064x}",
        }
        for number in (1, 2)
    ]  # fmt: skip
    return spec, conditions, status


def lists(rows: int) -> dict[str, str]:
    """Queries by name: each filter, each order; with the first page, one in the middle and a late one."""
    middle, late = f"service-{rows // 2:05d}", f"service-{rows - 60:05d}"
    found = {
        "all": "",
        "one group": "group=g7",
        "three groups": "group=g7&group=g8&group=g9",
        "phase, rare": "phase=Failed",
        "phase, common": "phase=Deployed",
        "mine": "mine=true",
        "keyword, rare": f"q={rows // 2:05d}",
        "keyword, common": "q=churn",
        "keyword, two letters": "q=ab",
        "keyword, nothing": "q=nothing-like-this",
        "all of them": "q=fraud&group=g7&phase=Deployed&mine=true",
    }
    found = {**found, **{f"{name}, -updated_at": f"{query}&sort=-updated_at" for name, query in found.items()}}
    found["by name"] = "sort=name"
    for place, last in (("middle", middle), ("late", late)):
        found |= {
            f"{name}, {place} page": f"{query}&cursor={encode_cursor((last,))}"
            for name, query in found.items()
            if "sort=" not in query and "page" not in name
        }
    return found


async def measure(url: str, tokens: dict[str, str], *, creates: int, rows: int, rounds: int) -> dict[str, list[float]]:
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=30) as http:
        root, user = ({"Authorization": tokens[who]} for who in ("root", "u0"))
        body = {"group": "bench", "model": "bench/churn/1"}
        await timed(20, lambda _: http.get("/runtimes", headers=user))
        await timed(10, lambda n: http.post("/deployments", json={**body, "id": f"warm-{n}"}, headers=user))
        figures = {
            FLOOR: await timed(200, lambda _: http.get("/runtimes", headers=user)),
            "create": await timed(
                creates,
                lambda n: http.post("/deployments", json={**body, "id": f"made-{n}"}, headers=user),
                pause=PAUSE,
            ),
            "create, back to back": await timed(
                creates, lambda n: http.post("/deployments", json={**body, "id": f"more-{n}"}, headers=user)
            ),
            "update": await timed(
                creates,
                lambda n: http.patch(f"/deployments/made-{n}", json={"description": "x"}, headers=user),
                pause=PAUSE,
            ),
            "get": await timed(creates, lambda n: http.get(f"/deployments/made-{n}", headers=user)),
        }
        order = [(name, query) for name, query in lists(rows).items() for _ in range(rounds)]
        random.Random(1).shuffle(order)
        for who, headers in (("admin", root), ("40 groups", user)):
            for name, query in order:
                path = f"/deployments?limit=50&{query}"
                taken = await timed(1, getting(http, path, headers))
                figures.setdefault(f"list: {name} ({who})", []).extend(taken)
        figures["list"] = [each for name, every in figures.items() if name.startswith("list: ") for each in every]
        figures["list: counted (admin)"] = await timed(
            20, lambda _: http.get("/deployments?count=true&limit=50", headers=root)
        )
        figures["list: 200 a page (admin)"] = await timed(
            20, lambda _: http.get("/deployments?limit=200", headers=root)
        )
    return figures


async def bench(*, creates: int, rows: int, rounds: int) -> dict[str, list[float]]:
    with database_folder() as folder:
        server = Server(folder)
        await server.start()
        try:
            url = server.postgres.url
            await asyncio.to_thread(migrations.upgrade, url)
            tokens = await seed(url, rows=rows)
            async with serving("bench.deployments_api", "--serve", database_url=url) as deployer:
                return await measure(deployer.url, tokens, creates=creates, rows=rows, rounds=rounds)
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creates", type=int, default=200)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=6, help="of each list query")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    figures = asyncio.run(bench(creates=given.creates, rows=given.rows, rounds=given.rounds))
    report(
        figures,
        title=f"Deployments API, milliseconds, {given.rows} deployments",
        goals=GOALS,
        floor=FLOOR,
        shown=SHOWN,
        file=given.json,
    )


if __name__ == "__main__":
    main()
