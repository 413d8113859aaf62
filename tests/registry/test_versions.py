"""Versions: registration, numbering, runs, metrics, curves, lineage, and what may be removed."""

import asyncio

from tests.registry.world import Registry, code, sha256

VERSIONS = "/models/risk/churn/versions"


async def test_the_first_version_makes_the_model(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    uri = await registry.uploaded(b"weights", by=ana)
    body = {
        "artifact": uri,
        "framework": "sklearn",
        "metrics": {"auc": 0.91, "by": {"de": [1, 0.5]}, "ok": True},
        "parameters": {"depth": 6, "loss": None},
        "curves": {"loss": [[1, 0.7], [2, 0.4], [3, None]]},
        "description": "first",
    }
    made = await registry.call("POST", VERSIONS, body, by=ana)
    assert made.status_code == 201, made.text
    version = made.json()
    assert {name: version[name] for name in body} == body
    assert (version["number"], version["digest"], version["size"]) == (1, sha256(b"weights"), 7)
    assert (version["created_by"], version["run"], version["aliases"]) == ("ana", None, [])
    assert version["metrics_summary"] == "by.de.0=1, by.de.1=0.5, ok=true, auc=0.91"
    assert (await registry.call("GET", f"{VERSIONS}/1", by=ana)).json() == version

    model = (await registry.call("GET", "/models/risk/churn", by=ana)).json()
    assert (model["latest"], model["framework"], model["metrics_summary"]) == (1, "sklearn", version["metrics_summary"])
    listed = (await registry.call("GET", VERSIONS, by=ana)).json()["items"]
    assert listed[0]["metrics_summary"] == version["metrics_summary"]
    assert "curves" not in listed[0]


async def test_metrics_may_be_text(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    uri = await registry.uploaded()
    version = await registry.make(VERSIONS, {"artifact": uri, "metrics": "auc 0.9\n on the holdout"})
    assert (version["metrics"], version["metrics_summary"]) == ("auc 0.9\n on the holdout", "auc 0.9 on the holdout")


async def test_numbers_have_no_gaps_and_no_doubles(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    uri = await registry.uploaded()
    refused = {"artifact": uri, "metrics": {"deep": [[[[[[[[[[1]]]]]]]]]]}}
    bodies = [{"artifact": uri}, refused] * 10
    answers = await asyncio.gather(*(registry.call("POST", VERSIONS, body, by=registry.admin) for body in bodies))
    dry = await registry.call("POST", f"{VERSIONS}?dry_run=true", {"artifact": uri}, by=registry.admin)
    assert dry.json()["number"] == 11
    assert sorted(a.json()["number"] for a in answers if a.status_code == 201) == list(range(1, 11))
    assert (await registry.call("DELETE", f"{VERSIONS}/10", by=registry.admin)).status_code == 204
    assert (await registry.make(VERSIONS, {"artifact": uri}))["number"] == 11  # never used again


async def test_a_run_registers_one_version_however_often(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    uri = await registry.uploaded()
    run = "/models/risk/churn/runs/train-7"
    body = {"artifact": uri, "metrics": {"auc": 1, "p": 1e-30}, "curves": {"loss": [[0, 1], [1, 0.25]]}}
    answers = await asyncio.gather(*(registry.call("PUT", run, body, by=registry.admin) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert {(answer.json()["number"], answer.json()["run"]) for answer in answers} == {(1, "train-7")}
    again = body | {"metrics": {"p": 1e-30, "auc": 1.0}}
    assert (await registry.call("PUT", run, again, by=registry.admin)).status_code == 200
    for other in ({"metrics": {"auc": 2}}, {"curves": {}}, {"description": "x"}, {"metrics": None}):
        answer = await registry.call("PUT", run, body | other, by=registry.admin)
        assert (code(answer), answer.json()["version"]) == ("run_mismatch", 1)
    assert (await registry.call("PUT", "/models/risk/churn/runs/train-8", body, by=registry.admin)).json()[
        "number"
    ] == 2


async def test_large_curves_are_read_apart(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    long = [[step, step / 3] for step in range(48_000)]
    uri = await registry.uploaded()
    version = await registry.make(VERSIONS, {"artifact": uri, "curves": {"loss": long, "lr": [[0, 0.1]]}})
    assert (version["curves"], version["large_curves"]) == ({"lr": [[0, 0.1]]}, {"loss": 48_000})
    curve = await registry.call("GET", f"{VERSIONS}/1/curves/loss", by=registry.admin)
    assert curve.json() == {"name": "loss", "total": 48_000, "points": long}
    assert (await registry.call("GET", f"{VERSIONS}/1/curves/nope", by=registry.admin)).status_code == 404
    too_long = {"artifact": uri, "curves": {"a": [[0, 0]] * 60_000, "b": [[0, 0]] * 60_000}}
    assert (await registry.call("POST", VERSIONS, too_long, by=registry.admin)).status_code == 422


async def test_curves_are_cut_to_what_a_plot_can_show_and_keep_their_extremes(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    loss: list[list[float | None]] = [[step, 1 / (1 + step) + (step % 7) / 1000] for step in range(50_000)]
    loss[31_234][1], loss[40_001][1], loss[77][1] = 99.0, -5.0, None
    gap = [[step, None if 1000 <= step < 3000 else 1.0] for step in range(4000)]
    uri = await registry.uploaded()
    await registry.make(VERSIONS, {"artifact": uri, "curves": {"loss": loss, "gap": gap, "lr": [[0, 0.1], [1, 0.2]]}})

    async def points(curve: str, most: int) -> list[list[float | None]]:
        answer = await registry.call("GET", f"{VERSIONS}/1/curves/{curve}?points={most}", by=registry.admin)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["points"])

    for most in (4, 5, 100, 1000, 10_000):
        shown = await points("loss", most)
        assert most // 2 < len(shown) <= most
        steps = [step for step, _ in shown]
        assert steps == sorted(set(steps))  # in their order, none doubled
        assert all(loss[int(step or 0)] == [step, value] for step, value in shown)  # measured, not averaged
        assert [31_234, 99.0] in shown
        assert [40_001, -5.0] in shown
        assert (shown[0], shown[-1]) == (loss[0], loss[-1])
    assert [step for step, value in await points("gap", 102) if value is None] != []
    assert await points("lr", 4) == [[0, 0.1], [1, 0.2]]
    version = (await registry.call("GET", f"{VERSIONS}/1?points=500", by=registry.admin)).json()
    assert version["large_curves"] == {}
    assert max(map(len, version["curves"].values())) <= 500
    assert [31_234, 99.0] in version["curves"]["loss"]
    for bad in ("3", "10001", "-1", "x", "1e3"):
        answer = await registry.call("GET", f"{VERSIONS}/1/curves/loss?points={bad}", by=registry.admin)
        assert code(answer) == "validation_failed"


async def test_lineage_names_the_live_deployments_and_guards_the_version(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "manage")])
    await registry.make("/groups", {"id": "secret"})
    uri = await registry.uploaded()
    for _ in range(3):
        await registry.make(VERSIONS, {"artifact": uri})
    await registry.deploy("churn", group="risk", model="risk/churn/2", weight=10)
    await registry.deploy("asleep", group="risk", model="risk/churn/2", stopped=True)
    await registry.deploy("hidden", group="secret", model="risk/churn/2")
    await registry.deploy("other", group="risk", model="risk/churn/21")

    version = (await registry.call("GET", f"{VERSIONS}/2", by=ana)).json()
    assert [(d["deployment"], d["weight"], d["stopped"]) for d in version["deployments"]] == [
        ("asleep", 100.0, True),
        ("churn", 10.0, False),
    ]
    listed = (await registry.call("GET", VERSIONS, by=ana)).json()["items"]
    assert [len(item["deployments"]) for item in listed] == [0, 2, 0]

    for path in (f"{VERSIONS}/2", "/models/risk/churn"):
        refused = await registry.call("DELETE", path, by=ana)
        assert code(refused) == "in_use"
        assert (refused.json()["deployments"], refused.json()["hidden"]) == (["asleep", "churn"], 1)
    assert (await registry.call("DELETE", f"{VERSIONS}/3", by=ana)).status_code == 204
    assert (await registry.call("GET", f"{VERSIONS}/3", by=ana)).status_code == 404
    assert (await registry.call("GET", "/models/risk/churn", by=ana)).json()["latest"] == 2


async def test_what_no_version_may_hold(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    good = {"artifact": await registry.uploaded()}
    deep: object = 1
    for _ in range(30):
        deep = {"a": deep}
    refused = [
        {"metrics": deep},
        {"metrics": {"": 1}},
        {"metrics": {"a\x00": 1}},
        {"metrics": {"a": "\x00"}},
        {"metrics": "\x00"},
        {"metrics": [1]},
        {"parameters": {str(n): n for n in range(6000)}},
        {"parameters": {"a": "x" * 20_000}},
        {"curves": {"a/b": []}},
        {"curves": {"loss": [[1]]}},
        {"curves": {"loss": [[None, 1]]}},
        {"description": "\x00"},
        {"description": None},
        {"artifact": None},
        {"artifact": {}},
        {"artifact": {"../x": good["artifact"]}},
        {"number": 7},
    ]
    for change in refused:
        answer = await registry.call("POST", VERSIONS, good | change, by=registry.admin)
        assert answer.status_code == 422, (change, answer.text)
    for raw in (
        b'{"metrics": {"a": NaN}}',
        b'{"metrics": {"a": "\\ud800"}}',
        b'{"a": Infinity}',
        b"[" * 100_000,
        b"\xff",
    ):
        headers = {**registry.admin, "Content-Type": "application/json"}
        answer = await registry.http.post(f"/api/v1{VERSIONS}", content=raw, headers=headers)
        assert answer.status_code in (400, 422), answer.text
    assert (await registry.call("GET", "/models/risk/churn", by=registry.admin)).status_code == 404
    for path in ("/models/Risk/churn", "/models/risk/%00", f"{VERSIONS}/0", f"{VERSIONS}/99999999999999999999"):
        assert (await registry.call("GET", path, by=registry.admin)).status_code == 422
