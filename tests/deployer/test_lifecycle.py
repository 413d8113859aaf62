"""Create, update, stop, start, delete: what the world is after each."""

from services.deployer.platforms import Phase
from tests.deployer.conftest import Deployer, eventually


async def test_a_model_alone_is_published_with_defaults(deployer: Deployer) -> None:
    document = await deployer.ok("POST", "/deployments?wait=settled&timeout=10", {"model": "risk/churn"})
    assert document["id"] == "churn"
    assert document["group"] == "risk"
    assert document["access"] == "private"
    assert document["versions"] == [
        {
            "number": 1,
            "model": "risk/churn/3",
            "runtime": "inference",
            "instance_type": "cpu-1",
            "replicas": {"min": 1, "max": 1},
            "env": {},
            "image": None,
            "image_pull_secret": None,
            "config_files": {},
            "volumes": [],
            "service": None,
        }
    ]
    assert document["traffic"] == {"weights": {"1": 100}}
    status = document["status"]
    assert status["phase"] == "Deployed", status
    assert status["traffic"] == {"weights": {"1": 100}, "enforced": True}
    assert {condition["type"]: condition["status"] for condition in status["conditions"]} == {
        "Ready": "True",
        "Progressing": "True",
        "RoutesEnforced": "True",
    }
    again = await deployer.ok("POST", "/deployments", {"model": "risk/churn"})
    assert again["id"] == "churn-2"


async def test_stop_start_delete(deployer: Deployer) -> None:
    await deployer.deploy(replicas=2)
    assert len(deployer.platform.live()) == 2
    stopped = await deployer.ok("POST", "/deployments/churn/stop?wait=settled&timeout=10", {"message": "night"})
    assert stopped["status"]["phase"] == "Stopped"
    assert not deployer.platform.live()
    started = await deployer.ok("POST", "/deployments/churn/start?wait=settled&timeout=10")
    assert started["status"]["phase"] == "Deployed"
    assert (started["generation"], started["revision"]) == (3, 3)
    answer = await deployer.call("DELETE", "/deployments/churn?wait=settled&timeout=10")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not deployer.platform.replicas
    assert (await deployer.call("GET", "/deployments/churn")).status_code == 404
    revisions = (await deployer.ok("GET", "/deployments/churn/revisions"))["items"]
    assert [(each["number"], each["action"]) for each in revisions] == [
        (4, "delete"),
        (3, "start"),
        (2, "stop"),
        (1, "create"),
    ]


async def test_an_update_of_a_stopped_deployment_does_not_start_it(deployer: Deployer) -> None:
    await deployer.deploy()
    await deployer.ok("POST", "/deployments/churn/stop?wait=settled&timeout=10")
    document = await deployer.ok(
        "PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", {"model": "risk/churn/2"}
    )
    assert document["stopped"]
    assert document["status"]["phase"] == "Stopped"
    assert not deployer.platform.live()


async def test_only_what_changed_restarts(deployer: Deployer) -> None:
    await deployer.deploy()
    first = list(deployer.platform.started)
    for change in (
        {"description": "why", "metadata": {"team": "a"}, "access": "public", "name": "Churn!"},
        {"traffic": {"weights": {"1": 100}}, "progress_deadline": 60, "metadata": None},
    ):
        document = await deployer.ok("PATCH", "/deployments/churn?wait=settled&timeout=10", change)
        assert document["status"]["phase"] == "Deployed"
    assert document["metadata"] == {}
    assert deployer.platform.started == first
    await deployer.ok("POST", "/deployments/churn/redeploy?wait=settled&timeout=10")
    assert len(deployer.platform.started) == 2
    await eventually(lambda: deployer.platform.ended == first)


async def test_a_rolling_update_replaces_one_after_the_other(deployer: Deployer) -> None:
    await deployer.deploy(replicas=3)
    old = set(deployer.platform.started)
    document = await deployer.ok(
        "PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", {"env": {"THREADS": "2"}}
    )
    assert document["status"]["phase"] == "Deployed"
    await eventually(lambda: set(deployer.platform.ended) == old)
    assert len(deployer.platform.all(phase=Phase.READY)) == 3
