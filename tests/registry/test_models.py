"""Models: search over all one may see, aliases, merge patches, ETags."""

import itertools

from tests.registry.world import Registry, code


async def _make_some(registry: Registry) -> None:
    for group in ("risk", "fraud"):
        await registry.make("/groups", {"id": group})
    for group, name, framework, tags, description in (
        ("fraud", "cards-2024", "xgboost", ["tabular", "Live"], "Stolen cards"),
        ("fraud", "rings", "pytorch", ["graph"], ""),
        ("risk", "churn", "sklearn", ["tabular"], "Who leaves us?"),
        ("risk", "resnet50", "pytorch", [], "50% off_line"),
    ):
        body = {"group": group, "name": name, "framework": framework, "tags": tags, "description": description}
        await registry.make("/models", body)


async def _names(registry: Registry, query: str, *, by: dict[str, str] | None = None) -> list[str]:
    answer = await registry.call("GET", f"/models?{query}", by=by or registry.admin)
    assert answer.status_code == 200, answer.text
    return [model["name"] for model in answer.json()["items"]]


async def test_search_by_words_group_framework_tag_and_mine(registry: Registry) -> None:
    await _make_some(registry)
    expected = {
        "": ["cards-2024", "rings", "churn", "resnet50"],
        "q=2024": ["cards-2024"],
        "q=STOL card": ["cards-2024"],
        "q=pyt": ["rings", "resnet50"],
        "q=live": ["cards-2024"],
        "q=leaves nobody": [],
        "q=50%25 off_line": ["resnet50"],
        "q=%25": [],
        "q=' :* | !&": [],
        "q=%20": ["cards-2024", "rings", "churn", "resnet50"],
        "group=risk": ["churn", "resnet50"],
        "group=risk&group=fraud&framework=pytorch": ["rings", "resnet50"],
        "framework=pytorch&framework=sklearn": ["rings", "churn", "resnet50"],
        "framework=pytorch&framework=sklearn&framework=pytorch&sort=-created_at": ["resnet50", "churn", "rings"],
        "tag=tabular": ["cards-2024", "churn"],
        "tag=tabular&tag=LIVE": ["cards-2024"],
        "sort=-created_at": ["resnet50", "churn", "rings", "cards-2024"],
    }
    assert {query: await _names(registry, query) for query in expected} == expected
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    assert await _names(registry, "", by=ana) == ["churn", "resnet50"]
    assert await _names(registry, "group=fraud", by=ana) == []
    await registry.make("/models", {"group": "risk", "name": "hers"}, by=ana)
    assert await _names(registry, "mine=true", by=ana) == ["hers"]
    await registry.call("PATCH", "/models/fraud/rings", {"description": "Money"}, by=registry.admin)
    assert (await _names(registry, "sort=-updated_at"))[:2] == ["rings", "hers"]
    assert await _names(registry, "q=money") == ["rings"]


async def test_pages_are_stable_while_models_come(registry: Registry) -> None:
    await _make_some(registry)
    sorts, filters = ("name", "-created_at", "-updated_at"), ("", "&framework=xgboost&framework=sklearn")
    for number, (sort, of) in enumerate(itertools.product(sorts, filters)):
        before = await _names(registry, of)
        seen, cursor = [], ""
        while True:
            query = f"/models?limit=1&count=true&sort={sort}{of}{cursor}"
            page = (await registry.call("GET", query, by=registry.admin)).json()
            seen += [model["name"] for model in page["items"]]
            if not cursor:  # one more, that comes before the cursor in this order
                assert page["total"] == len(before)
                await registry.make("/models", {"group": "fraud", "name": f"aaa{9 - number}", "framework": "sklearn"})
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(seen) == sorted(before)
        other = "-created_at" if sort != "-created_at" else "name"
        mixed = await registry.call("GET", f"/models?sort={other}{cursor}", by=registry.admin)
        assert code(mixed) == "validation_failed"


async def test_aliases_move_and_go(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    uri = await registry.uploaded()
    for _ in range(3):
        await registry.make("/models/risk/churn/versions", {"artifact": uri})

    async def patch(aliases: object) -> dict[str, int]:
        answer = await registry.call("PATCH", "/models/risk/churn", {"aliases": aliases}, by=registry.admin)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["aliases"])

    assert await patch({"champion": 2, "candidate": 3}) == {"champion": 2, "candidate": 3}
    assert await patch({"champion": 3, "nobody": None}) == {"champion": 3, "candidate": 3}
    version = (await registry.call("GET", "/models/risk/churn/versions/3", by=registry.admin)).json()
    assert version["aliases"] == ["candidate", "champion"]
    assert await patch({"candidate": None}) == {"champion": 3}
    for bad in ({"champion": 4}, {"champion": 0}, {"Champion": 1}, {"champion": "1"}):
        answer = await registry.call("PATCH", "/models/risk/churn", {"aliases": bad}, by=registry.admin)
        assert code(answer) == "validation_failed"
    assert (await registry.call("DELETE", "/models/risk/churn/versions/3", by=registry.admin)).status_code == 204
    assert (await registry.call("GET", "/models/risk/churn", by=registry.admin)).json()["aliases"] == {}
    assert await patch({"champion": 1}) == {"champion": 1}
    assert await patch(None) == {}


async def test_merge_patch_and_etag(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    body = {"group": "risk", "name": "churn", "framework": "sklearn", "description": "x", "tags": ["B", "a", "b"]}
    assert (await registry.make("/models", body))["tags"] == ["a", "b"]
    before = await registry.call("GET", "/models/risk/churn", by=registry.admin)
    tag = {"If-Match": before.headers["etag"]}
    same = await registry.call("PATCH", "/models/risk/churn", {"framework": "sklearn"}, by=registry.admin, headers=tag)
    assert same.headers["etag"] == before.headers["etag"]
    change = {"framework": None, "description": None, "tags": None}
    cleared = await registry.call("PATCH", "/models/risk/churn", change, by=registry.admin, headers=tag)
    assert [cleared.json()[name] for name in change] == ["", "", []]
    for method, content in (("PATCH", {}), ("DELETE", None)):
        late = await registry.call(method, "/models/risk/churn", content, by=registry.admin, headers=tag)
        assert code(late) == "version_conflict"
    assert code(await registry.call("POST", "/models", body, by=registry.admin)) == "name_taken"
    nowhere = await registry.call("POST", "/models", body | {"group": "nowhere"}, by=registry.admin)
    assert code(nowhere) == "not_found"
