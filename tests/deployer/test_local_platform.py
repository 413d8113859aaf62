"""The deployer on the real local platform with the real model server; only the gateway is a stand-in."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.deployer.app import create_with
from services.deployer.platforms.local import LocalPlatform, shutdown
from shared.schema import Model, ModelVersion
from shared.service import Core
from tests.deployer.conftest import Deployer, furnish, settings_of
from tests.deployer.fakes import FakeGateway, FakePlatform
from tests.support.services import People, serving

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def local(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Deployer]:
    settings = settings_of(environment, monkeypatch)
    core = Core(settings, service="deployer")
    platform = LocalPlatform(tmp_path / "replicas", lambda digest: digest, vault=core.vault)
    app = create_with(settings, core=core, platform=platform)
    try:
        async with serving(app) as client:
            people = People.of(app)
            ana = await people.add("ana", groups=[("risk", "edit")])
            await furnish(core)
            async with FakeGateway(core.sessions, core.hints) as gateway:
                yield Deployer(app, core, client, people, FakePlatform(), gateway, ana)
    finally:
        await shutdown(tmp_path / "replicas")


async def register(deployer: Deployer, name: str, folder: Path) -> None:
    async with deployer.core.sessions.begin() as session:
        model = Model(group_id="risk", name=name, latest=1, created_by="ana")
        session.add(model)
        await session.flush()
        session.add(ModelVersion(model_id=model.id, number=1, artifact=folder.as_uri(), created_by="ana"))


async def test_a_model_is_served_and_a_broken_one_explained(local: Deployer) -> None:
    await register(local, "whoami", EXAMPLES / "whoami")
    await register(local, "broken", EXAMPLES / "broken")
    for name in ("whoami", "broken"):
        await local.ok("POST", "/deployments", {"model": f"risk/{name}"})
    document = await local.ok("PATCH", "/deployments/whoami?wait=settled&timeout=30", {"description": "who"})
    assert document["status"]["phase"] == "Deployed", document["status"]
    (replica,) = (await local.ok("GET", "/deployments/whoami/replicas"))["items"]
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://{replica['address']}/predict/whoami/1", json={})
    assert answer.json()["message"] == "SUCCESS"
    log = await local.call("GET", f"/deployments/whoami/replicas/{replica['id']}/log")
    assert log.status_code == 200
    failed = await local.ok("PATCH", "/deployments/broken?wait=settled&timeout=30", {"description": "why"})
    told = failed["status"]["versions"][0]["failure"]
    assert (failed["status"]["phase"], told["cause"]) == ("Failed", "model_load")
    assert told["evidence"]["exit_code"] == 65
    assert told["evidence"]["log"]
    for name in ("whoami", "broken"):
        await local.ok("DELETE", f"/deployments/{name}?wait=settled&timeout=30")
        assert (await local.ok("GET", f"/deployments/{name}/log"))["items"][0]["step"] == "deleted"
