"""The quota holds exactly, whoever asks at the same moment."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from shared.schema import Deployment
from tests.deployer.conftest import Deployer


def outcomes(answers: list[httpx.Response]) -> Counter[Any]:
    return Counter(answer.status_code if answer.is_success else answer.json()["code"] for answer in answers)


async def reserved(deployer: Deployer) -> float:
    running = Deployment.deleted_at.is_(None) & ~Deployment.stopped
    async with deployer.core.reading() as session:
        return float((await session.execute(select(func.sum(Deployment.reserved_cpu)).where(running))).scalar() or 0)


# One replica and the one more that a rollout may have at once: 2 cores each.
@pytest.mark.parametrize("quota", [{"quota_deployments": 10}, {"quota_cpu": 20}, {"quota_memory": 20 * 2**30}])
async def test_fifty_creates_at_once_against_a_quota_of_ten(deployer: Deployer, quota: dict[str, int]) -> None:
    await deployer.quota(**quota)
    bodies = [{"model": "risk/churn/1", "instance_type": "cpu-1"} for _ in range(50)]
    answers = await asyncio.gather(*(deployer.call("POST", "/deployments", body) for body in bodies))
    assert outcomes(answers) == {201: 10, "quota_exceeded": 40}
    assert {answer.json()["id"] for answer in answers if answer.is_success} == {
        "churn",
        *(f"churn-{number}" for number in range(2, 11)),
    }


async def test_a_refusal_says_by_how_much(deployer: Deployer) -> None:
    await deployer.quota(quota_cpu=4, quota_gpu=0)
    await deployer.deploy()
    answer = await deployer.call("PATCH", "/deployments/churn/versions/1", {"replicas": 10})
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["code"] == "quota_exceeded"
    assert problem["resources"] == ["cpu"]
    assert problem["requested"]["cpu"] == 13  # ten, and a surge of three
    assert problem["used"]["cpu"] == 0  # by others
    assert problem["limit"] == {"cpu": 4, "memory": None, "gpu": 0, "deployments": None}


async def test_a_dry_run_says_whether_it_fits_and_changes_nothing(deployer: Deployer) -> None:
    await deployer.quota(quota_cpu=4)
    before = await deployer.deploy()
    would = await deployer.ok("PATCH", "/deployments/churn/versions/1?dry_run=true", {"replicas": 10})
    assert would["fits"] is False
    assert would["quota"]["requested"]["cpu"] == 13
    assert {change["path"] for change in would["diff"]} == {"/versions/1/replicas/max", "/versions/1/replicas/min"}
    assert would["generation"] == before["generation"] + 1
    would = await deployer.ok("PATCH", "/deployments/churn/versions/1?dry_run=true", {"replicas": 2})
    assert would["fits"] is True
    assert "quota" not in would
    assert await deployer.ok("GET", "/deployments/churn") == before
    created = await deployer.call("POST", "/deployments?dry_run=true", {"id": "new", "model": "risk/churn/1"})
    assert created.json()["fits"] is True
    assert (await deployer.call("GET", "/deployments/new")).status_code == 404


async def test_stopped_counts_nothing_and_starting_is_admitted(deployer: Deployer) -> None:
    await deployer.quota(quota_cpu=2)
    await deployer.ok("POST", "/deployments", {"id": "first", "model": "risk/churn/1"})
    assert (await deployer.call("POST", "/deployments", {"model": "risk/churn/1"})).status_code == 403
    await deployer.ok("POST", "/deployments/first/stop")
    await deployer.ok("POST", "/deployments", {"id": "second", "model": "risk/churn/1"})
    answer = await deployer.call("POST", "/deployments/first/start")
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    # Growing while stopped reserves nothing, so it is allowed; the start then counts it.
    await deployer.ok("PATCH", "/deployments/first/versions/1", {"replicas": 50})
    await deployer.ok("DELETE", "/deployments/second")
    assert (await deployer.call("POST", "/deployments/first/start")).status_code == 403


async def test_races_of_start_scale_and_rollback_never_exceed_it(deployer: Deployer) -> None:
    await deployer.quota(quota_cpu=12)
    for number in range(6):
        await deployer.ok("POST", "/deployments", {"id": f"d-{number}", "model": "risk/churn/1", "replicas": 1})
    for number in range(6):
        if number < 3:
            await deployer.ok("POST", f"/deployments/d-{number}/stop")
    for number in range(3, 6):
        await deployer.ok("PATCH", f"/deployments/d-{number}/versions/1", {"replicas": 3})
    assert await reserved(deployer) == 12
    for number in range(3, 6):
        await deployer.ok("PATCH", f"/deployments/d-{number}/versions/1", {"replicas": 1})
    requests = [
        *(deployer.call("POST", f"/deployments/d-{number}/start") for number in range(3)),
        *(deployer.call("POST", f"/deployments/d-{number}/rollback", {"revision": 2}) for number in range(3, 6)),
        *(deployer.call("PATCH", f"/deployments/d-{number}/versions/1", {"replicas": 4}) for number in range(3, 6)),
        *(deployer.call("POST", "/deployments", {"model": "risk/fraud/1"}) for _ in range(6)),
    ]
    answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} <= {200, 201, 403}
    assert 403 in {answer.status_code for answer in answers}
    assert await reserved(deployer) <= 12


async def test_a_lowered_quota_keeps_nobody_from_asking_for_less(deployer: Deployer) -> None:
    await deployer.deploy(replicas=3)
    await deployer.quota(quota_cpu=1)
    await deployer.ok("PATCH", "/deployments/churn", {"description": "still editable"})
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"A": "1"}})
    await deployer.ok("PATCH", "/deployments/churn/versions/1", {"replicas": 2})
    assert (await deployer.call("PATCH", "/deployments/churn/versions/1", {"replicas": 3})).status_code == 403


async def test_a_group_that_may_not_deploy(deployer: Deployer) -> None:
    await deployer.deploy()
    await deployer.ok("POST", "/deployments/churn/versions", {"model": "risk/churn/2"})
    await deployer.quota(deployment_enabled=False)
    for method, path, body in (
        ("POST", "/deployments", {"model": "risk/churn/1"}),
        ("POST", "/deployments/churn/redeploy", None),
        ("PATCH", "/deployments/churn/versions/1", {"replicas": 2}),
    ):
        answer = await deployer.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "deployment_disabled")
        assert "a platform admin can switch it on" in answer.json()["detail"]
    await deployer.ok("DELETE", "/deployments/churn/versions/2")
    assert (await deployer.until_phase("Deployed"))["status"]["versions"][0]["ready"] == 1
    await deployer.ok("PATCH", "/deployments/churn", {"description": "allowed"})
    await deployer.ok("POST", "/deployments/churn/stop")
    assert (await deployer.call("POST", "/deployments/churn/start")).json()["code"] == "deployment_disabled"
    await deployer.ok("DELETE", "/deployments/churn")
