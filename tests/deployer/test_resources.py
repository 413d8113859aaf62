"""What docs/api.md promises of every resource and of every list, on the deployer's smaller ones."""

from tests.deployer.conftest import Deployer


async def test_each_resource_has_a_strong_etag_that_moves_with_it(deployer: Deployer) -> None:
    await deployer.deploy(replicas=2)
    (one, _) = (await deployer.ok("GET", "/deployments/churn/replicas"))["items"]
    paths = {
        "replica": f"/deployments/churn/replicas/{one['id']}",
        "version": "/deployments/churn/versions/1",
        "revision": "/deployments/churn/revisions/1",
        "runtime": "/runtimes/inference",
    }

    async def tags() -> dict[str, str]:
        answers = {name: await deployer.call("GET", path) for name, path in paths.items()}
        assert all(answer.headers["ETag"].startswith('"') for answer in answers.values())
        return {name: answer.headers["ETag"] for name, answer in answers.items()}

    before = await tags()
    assert await tags() == before
    assert (await deployer.call("GET", paths["replica"])).json() == one
    await deployer.ok("PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", {"env": {"A": "1"}})
    after = await tags()
    assert {name for name in paths if before[name] != after[name]} == {"replica", "version"}
    assert (await deployer.call("GET", "/deployments/churn/replicas/nobody")).status_code == 404
    created = await deployer.call("POST", "/deployments", {"model": "risk/fraud/1"})
    assert created.headers["ETag"] == '"1"'


async def test_replicas_come_in_pages(deployer: Deployer) -> None:
    await deployer.deploy(replicas=3)
    await deployer.ok(
        "POST", "/deployments/churn/versions?wait=settled&timeout=10", {"model": "risk/churn/2", "replicas": 2}
    )
    everything = (await deployer.ok("GET", "/deployments/churn/replicas?count=true"))["items"]
    assert [replica["version"] for replica in everything] == [1, 1, 1, 2, 2]
    found, query = [], ""
    while True:
        page = await deployer.ok("GET", f"/deployments/churn/replicas?limit=2&count=true{query}")
        assert (len(page["items"]) <= 2, page["total"]) == (True, 5)
        found += page["items"]
        if page["next"] is None:
            break
        query = f"&cursor={page['next']}"
    assert found == everything
    for query, versions in {"version=2": {2}, "version=1&version=2": {1, 2}, "version=3": set()}.items():
        items = (await deployer.ok("GET", f"/deployments/churn/replicas?{query}"))["items"]
        assert {replica["version"] for replica in items} == versions
    foreign = (await deployer.ok("GET", "/deployments?limit=1&count=true"))["next"] or "W10"
    assert (await deployer.call("GET", f"/deployments/churn/replicas?cursor={foreign}")).status_code == 422
