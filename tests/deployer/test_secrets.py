"""A secret value goes to the replica, and nowhere else in the clear."""

import json

import pytest
from sqlalchemy import text

from services.deployer.platforms import Phase
from tests.deployer.conftest import Deployer, eventually

SECRET = "hunter2-hunter2"


async def test_a_secret_never_leaks(deployer: Deployer, capsys: pytest.CaptureFixture[str]) -> None:
    document = await deployer.deploy(env={"KEY": {"secret": SECRET}, "THREADS": "1"})
    assert document["versions"][0]["env"] == {"KEY": {"secret": True}, "THREADS": "1"}
    (replica,) = deployer.platform.all(phase=Phase.READY)
    assert replica.workload.template.env == {"THREADS": "1"}
    assert replica.workload.template.secrets == {"KEY": SECRET}
    paths = ("", "/versions", "/revisions", "/log", "/replicas")
    shown = [json.dumps(document), *[(await deployer.call("GET", f"/deployments/churn{path}")).text for path in paths]]
    refused = await deployer.call(
        "POST", "/deployments", {"id": "bad", "model": "risk/none", "env": {"KEY": {"secret": SECRET}}}
    )
    assert refused.status_code == 422
    shown.append(refused.text)
    async with deployer.core.reading() as session:
        for table in ("deployments", "revisions", "replicas", "deployment_steps", "outbox", "bus_messages"):
            rows = await session.execute(text(f"SELECT coalesce(jsonb_agg(t)::text, '') FROM {table} t"))
            shown.append(str(rows.scalar_one()))
    shown.append(capsys.readouterr().out)
    assert not any(SECRET in each for each in shown)


async def test_a_secret_stays_as_it_stands_and_shows_when_it_changes(deployer: Deployer) -> None:
    await deployer.deploy(env={"KEY": {"secret": SECRET}})
    started = list(deployer.platform.started)
    whole = {"versions": [{"model": "risk/churn/1", "env": {"KEY": {"secret": SECRET}}}], "name": "churn"}
    for body in (whole, {**whole, "versions": [{"model": "risk/churn/1", "env": {"KEY": {"secret": True}}}]}):
        assert (await deployer.ok("PUT", "/deployments/churn", body))["revision"] == 1
    document = await deployer.ok(
        "PATCH", "/deployments/churn/versions/1?wait=settled", {"env": {"KEY": {"secret": "b"}}}
    )
    assert document["revision"] == 2
    assert len(deployer.platform.started) == 2
    revision = await deployer.ok("GET", "/deployments/churn/revisions/2")
    assert revision["diff"] == [{"path": "/versions/1/env/KEY", "before": {"secret": True}, "after": {"secret": True}}]
    await deployer.ok("POST", "/deployments/churn/rollback?wait=settled", {"revision": 1})
    await eventually(lambda: len(deployer.platform.all(phase=Phase.READY)) == 1)
    assert deployer.platform.all(phase=Phase.READY)[0].workload.template.secrets == {"KEY": SECRET}
    unknown = await deployer.call("PATCH", "/deployments/churn/versions/1", {"env": {"OTHER": {"secret": True}}})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/env/OTHER/secret")
    cleared = await deployer.ok("PATCH", "/deployments/churn/versions/1", {"env": {"KEY": None}})
    assert cleared["versions"][0]["env"] == {}
    assert started[0] in deployer.platform.started
