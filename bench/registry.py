"""How long the registry takes with 100,000 models, 1,000,000 versions and 2,000 groups: any list, any filter, search
by words, any page; and to register a version.

    .venv/bin/python -m bench.registry [--models 100000] [--rounds 5] [--registers 200] [--json figures.json]

The registry is a process of its own (uvicorn, as in production), PostgreSQL too, with fsync on. Each query is made by
an admin, who sees everything, and by a user of forty groups. The floor is a GET that only checks the token.
"""

import argparse
import asyncio
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

import migrations
from bench.service import getting, report, serving, timed
from shared.database import create_engine, create_sessions
from shared.http.pages import encode_cursor
from tests.registry.seed import Size, seed
from tests.support.postgres import Server, database_folder
from tests.support.services import People

GOALS = {"list": ("p95", 20.0), "register": ("p50", 15.0), "register by run, new": ("p50", 15.0)}
FLOOR = "floor: GET /instance-types"
SHOWN = 12
"""So many of the slowest queries are in the table."""
MINE = 40


def queries(size: Size) -> dict[str, str]:
    """By name: each filter, each order, with the first page and a late one."""
    filters = {
        "all": "",
        "large group": "group=g0",
        "small group": f"group=g{size.groups - 1}",
        "three groups": "group=g3&group=g70&group=g900",
        "framework, common": "framework=sklearn",
        "framework, rare": "framework=custom",
        "two frameworks": "framework=custom&framework=onnx",
        "tag, common": "tag=tag0",
        "tag, rare": "tag=tag250",
        "two tags": "tag=tag0&tag=tag7",
        "mine": "mine=true",
        "word, common": "q=churn",
        "word, less common": "q=word7",
        "word, rare": "q=word2900",
        "beginning, common": "q=wor",
        "beginning, one letter": "q=c",
        "two words": "q=churn word0",
        "three words": "q=credit sklearn word1",
        "a number": f"q={size.models // 2}",
        "nothing": "q=nothinglikethis",
        "word of a group": "q=word3&group=g0",
        "word and framework": "q=churn&framework=custom",
        "all of them": "q=churn&group=g0&framework=sklearn&tag=tag0&mine=true",
    }
    middle = datetime.now(UTC) - timedelta(minutes=50_000)
    orders = {
        "name": ("g500", "a"),
        "-created_at": (size.models // 2,),
        "-updated_at": (middle, size.models // 2),
    }
    pages = {}
    for name, query in filters.items():
        for sort, key in orders.items():
            pages[f"{name}, {sort}"] = f"sort={sort}&{query}"
            pages[f"{name}, {sort}, late"] = f"sort={sort}&{query}&cursor={encode_cursor(key)}"
    return pages


async def measure(
    url: str, people: dict[str, dict[str, str]], size: Size, *, rounds: int, registers: int
) -> dict[str, list[float]]:
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=30) as http:
        root, user = people["root"], people["u0"]
        await timed(20, lambda _: http.get("/instance-types", headers=user))
        figures = {FLOOR: await timed(200, lambda _: http.get("/instance-types", headers=user))}
        everything = [(who, name, query) for who in people for name, query in queries(size).items()] * (rounds + 1)
        random.Random(1).shuffle(everything)
        seen: set[tuple[str, str]] = set()
        for who, name, query in everything:
            path, headers = f"/models?limit=50&{query}", people[who]
            taken = await timed(1, getting(http, path, headers))
            if (who, name) in seen:  # the first one reads it from the disk
                figures.setdefault(f"list: {name} ({who})", []).extend(taken)
            seen.add((who, name))
        figures["list"] = [each for name, every in figures.items() if name.startswith("list: ") for each in every]
        found = (await http.get("/models?group=g0&limit=50", headers=root)).json()["items"]
        paths = [f"/models/g0/{each['name']}" for each in found]
        figures["get a model"] = await timed(200, lambda n: http.get(paths[n % 50], headers=root))
        figures["list versions, with lineage"] = await timed(
            200, lambda n: http.get(f"{paths[n % 50]}/versions", headers=root)
        )
        figures["get a version"] = await timed(200, lambda n: http.get(f"{paths[n % 50]}/versions/1", headers=root))
        figures["list counted"] = await timed(
            20, lambda _: http.get("/models?count=true&framework=custom", headers=root)
        )
        upload = {**root, "Content-Type": "application/octet-stream"}
        uri = (await http.post("/artifacts", content=b"model", headers=upload)).json()["uri"]
        body = {"artifact": uri, "framework": "sklearn", "metrics": {"auc": 0.91}, "parameters": {"depth": 6},
                "curves": {"loss": [[step, 1 / (step + 1)] for step in range(100)]}}  # fmt: skip
        await timed(20, lambda n: http.post(f"/models/g1/warm-{n}/versions", json=body, headers=root))
        figures["register"] = await timed(
            registers, lambda n: http.post(f"{paths[n % 50]}/versions", json=body, headers=root)
        )
        figures["register by run, new"] = await timed(
            registers, lambda n: http.put(f"/models/g1/bench-{n % 50}/runs/run-{n}-x", json=body, headers=root)
        )
        figures["register by run, again"] = await timed(
            registers, lambda n: http.put(f"/models/g1/bench-{n % 50}/runs/run-{n}-x", json=body, headers=root)
        )
    return figures


async def bench(size: Size, *, rounds: int, registers: int) -> dict[str, list[float]]:
    with database_folder() as folder, tempfile.TemporaryDirectory() as blobs:
        server = Server(folder)
        await server.start()
        try:
            url = server.postgres.url
            await asyncio.to_thread(migrations.upgrade, url)
            await seed(url, size)
            engine = create_engine(url, application="bench", connections=1)
            made = People(create_sessions(engine))
            mine = [(f"g{number * 7}", "edit") for number in range(MINE)]
            people = {"root": await made.add("root", admin=True), "u0": await made.add("u0", groups=mine)}
            await engine.dispose()
            async with serving("services.registry", database_url=url, MOORAGE_BLOB_FOLDER=blobs) as registry:
                return await measure(registry.url, people, size, rounds=rounds, registers=registers)
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5, help="of each query")
    parser.add_argument("--registers", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    size = Size(groups=given.groups, models=given.models)
    figures = asyncio.run(bench(size, rounds=given.rounds, registers=given.registers))
    report(
        figures,
        title=f"Registry, milliseconds, {given.models} models in {given.groups} groups",
        goals=GOALS,
        floor=FLOOR,
        shown=SHOWN,
        file=given.json,
    )


if __name__ == "__main__":
    main()
