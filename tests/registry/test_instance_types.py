"""Instance types: GPU notation, who sees which, what cannot be taken from live deployments."""

from datetime import UTC, datetime
from typing import Any

from tests.registry.world import Registry, code

SMALL = {"id": "cpu-1", "cpu": "500m", "memory": "1Gi"}


async def test_gpu_is_shown_as_it_was_written(registry: Registry) -> None:
    written = {0: 0, 1: 1, 0.2: 0.2, "2": 2, "0.2(T4)": "0.2(T4)", "0.250(T4)": "0.25(T4)", "1(V100)": "1(V100)"}
    for number, (given, shown) in enumerate(written.items()):
        made = await registry.make("/instance-types", SMALL | {"id": f"t{number}", "gpu": given})
        assert (made["gpu"], made["cpu"], made["memory"]) == (shown, 0.5, 1 << 30)
        assert (await registry.call("GET", f"/instance-types/t{number}", by=registry.admin)).json() == made
        assert (made["deployments"], made["deployments_total"]) == ([], 0)


async def test_sizes_that_make_no_sense(registry: Registry) -> None:
    bad: list[dict[str, Any]] = [
        *({"gpu": gpu} for gpu in (-1, True, "T4", "0(T4)", "1.5", "1()", "1(T4", "1e3", "9999", [1], {}, "1(\x00)")),
        *({"cpu": cpu} for cpu in (0, -1, "0", "1x", "", None, True, 1e300, "9" * 40, "0.0001")),
        *({"memory": memory} for memory in (0, 1.5, "100m", "2**62", 2**62, None)),
        {"groups": ["nowhere"]},
        {"groups": "risk"},
        {"node_selector": {"": "x"}},
        {"node_selector": {"a": None}},
        {"tolerations": [{"effect": "Never"}]},
        {"tolerations": [{"toleration_seconds": 2**70}]},
        {"id": "Cpu"},
        {"id": "a" * 41},
        {"name": "\x00"},
        {"speed": 1},
    ]
    for change in bad:
        answer = await registry.call("POST", "/instance-types", SMALL | change, by=registry.admin)
        assert code(answer) == "validation_failed", (change, answer.text)
        if "id" not in change and change != {"node_selector": {"a": None}}:
            patched = await registry.call("PATCH", "/instance-types/cpu-1", change, by=registry.admin)
            assert patched.status_code in (404, 422), (change, patched.text)


async def test_open_to_all_or_to_some(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "manage")])
    await registry.people.add("sam", groups=[("fraud", "read")])
    for name, groups in (("all", None), ("ours", ["risk", "fraud"]), ("theirs", ["fraud"]), ("none", [])):
        await registry.make("/instance-types", SMALL | {"id": name, "groups": groups})
    listed = (await registry.call("GET", "/instance-types?count=true", by=ana)).json()
    assert {item["id"]: item["groups"] for item in listed["items"]} == {"all": None, "ours": ["risk"]}
    assert listed["total"] == 2
    narrowed = (await registry.call("GET", "/instance-types?group=fraud", by=registry.admin)).json()["items"]
    assert [item["id"] for item in narrowed] == ["all", "ours", "theirs"]
    assert (await registry.call("GET", "/instance-types?group=fraud", by=ana)).status_code == 404
    assert (await registry.call("GET", "/instance-types/theirs", by=ana)).status_code == 404
    assert (await registry.call("PATCH", "/instance-types/theirs", {"name": "x"}, by=ana)).status_code == 404
    assert (await registry.call("PATCH", "/instance-types/ours", {"name": "x"}, by=ana)).status_code == 403
    # A group that comes later under the same name does not inherit what was opened to the old one.
    assert (await registry.call("DELETE", "/groups/fraud", by=registry.admin)).status_code == 204
    assert (await registry.call("GET", "/instance-types/theirs", by=registry.admin)).json()["groups"] == []


async def test_what_live_deployments_use_can_grow_but_not_shrink(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    big = {"id": "gpu-1", "cpu": 2, "memory": "2Gi", "gpu": "0.5(T4)", "node_selector": {"zone": "a", "disk": "ssd"}}
    await registry.make("/instance-types", big)
    await registry.deploy("churn", group="risk", instance_type="gpu-1")
    await registry.deploy("asleep", group="risk", instance_type="gpu-1", stopped=True)
    await registry.deploy("gone", group="risk", instance_type="gpu-1", deleted_at=datetime.now(UTC))
    for change in ({"cpu": 1}, {"memory": "1Gi"}, {"gpu": "0.4(T4)"}, {"gpu": "0.5(V100)"}, {"gpu": None}):
        refused = await registry.call("PATCH", "/instance-types/gpu-1", change, by=registry.admin)
        assert (code(refused), refused.json()["deployments"]) == ("in_use", ["asleep", "churn"])
    refused = await registry.call("DELETE", "/instance-types/gpu-1", by=registry.admin)
    assert (code(refused), refused.json()["deployments"]) == ("in_use", ["asleep", "churn"])
    change = {"cpu": 4, "gpu": "1(T4)", "node_selector": {"zone": None, "rack": "7"}, "tolerations": [{"key": "gpu"}]}
    grown = (await registry.call("PATCH", "/instance-types/gpu-1", change, by=registry.admin)).json()
    assert (grown["cpu"], grown["gpu"], grown["node_selector"]) == (4.0, "1(T4)", {"disk": "ssd", "rack": "7"})
    assert grown["tolerations"][0]["key"] == "gpu"
    assert [use["deployment"] for use in grown["deployments"]] == ["asleep", "churn"]
    await registry.make("/instance-types", SMALL)
    assert (await registry.call("PATCH", "/instance-types/cpu-1", {"cpu": 0.25}, by=registry.admin)).status_code == 200
    assert (await registry.call("DELETE", "/instance-types/cpu-1", by=registry.admin)).status_code == 204


async def test_a_type_says_which_deployments_are_on_it(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "read")])
    await registry.make("/groups", {"id": "secret"})
    await registry.make("/instance-types", SMALL)
    await registry.deploy("churn", group="risk", phase="Deployed")
    await registry.deploy("asleep", group="risk", stopped=True, phase="Stopped")
    await registry.deploy("hidden", group="secret")
    await registry.deploy("elsewhere", group="risk", instance_type="cpu-2")
    on_it = {"version": 1, "model": "risk/churn/1", "group": "risk"}
    seen = [
        {**on_it, "deployment": "asleep", "stopped": True, "phase": "Stopped"},
        {**on_it, "deployment": "churn", "stopped": False, "phase": "Deployed"},
    ]
    shown = (await registry.call("GET", "/instance-types/cpu-1", by=ana)).json()
    assert (shown["deployments"], shown["deployments_total"]) == (seen, 3)
    asked = await registry.call(
        "PATCH", "/instance-types/cpu-1", {"cpu": 2}, by=registry.admin, params={"dry_run": "true"}
    )
    assert [use["deployment"] for use in asked.json()["deployments"]] == ["asleep", "churn", "hidden"]
    assert (await registry.call("GET", "/instance-types/cpu-1", by=ana)).json()["cpu"] == 0.5
