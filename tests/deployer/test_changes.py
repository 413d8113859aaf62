"""What a change makes of the document and of the history."""

import asyncio

import pytest
from sqlalchemy import Select, select, text, update

from shared.schema import InstanceType, Model, ModelAlias, ModelVersion
from tests.deployer.conftest import DEPLOYMENTS, Deployer, eventually


async def test_of_two_editors_the_second_is_told(deployer: Deployer) -> None:
    await deployer.deploy()
    seen = (await deployer.call("GET", "/deployments/churn")).headers["etag"]
    changes = [
        deployer.call("PATCH", "/deployments/churn", {"description": f"by {number}"}, If_Match=seen)
        for number in range(8)
    ]
    answers = await asyncio.gather(*changes)
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    loser = next(answer for answer in answers if answer.status_code == 412)
    assert loser.json()["code"] == "version_conflict"
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert winner.headers["etag"] == '"2"'
    assert len((await deployer.ok("GET", "/deployments/churn/revisions"))["items"]) == 2


async def test_only_what_heeds_if_match_says_so(deployer: Deployer) -> None:
    paths = (await deployer.client.get("/openapi.json")).json()["paths"]

    def takes_it(path: str, method: str) -> bool:
        return "If-Match" in {each.get("name") for each in paths[path][method].get("parameters", ())}

    assert not takes_it(DEPLOYMENTS, "post")
    assert all(takes_it(f"{DEPLOYMENTS}/{{id}}", method) for method in ("put", "patch", "delete"))


async def test_the_same_key_makes_one_deployment(deployer: Deployer) -> None:
    body = {"model": "risk/churn/1"}
    answers = await asyncio.gather(
        *(deployer.call("POST", "/deployments", body, Idempotency_Key="once") for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["uid"] for answer in answers} == {answers[0].json()["uid"]}
    assert len((await deployer.ok("GET", "/deployments"))["items"]) == 1
    other = await deployer.call("POST", "/deployments", {"model": "risk/churn/2"}, Idempotency_Key="once")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")


async def test_each_change_is_one_revision_and_nothing_is_none(deployer: Deployer) -> None:
    await deployer.deploy(message="first light")
    for body in ({}, {"description": ""}, {"access": "private"}, {"traffic": {"weights": {"1": 100}}}):
        document = await deployer.ok("PATCH", "/deployments/churn", {**body, "message": "nothing"})
        assert (document["revision"], document["message"]) == (1, "first light")
    await deployer.ok("POST", "/deployments/churn/start")  # it is
    await deployer.ok("PATCH", "/deployments/churn", {"metadata": {"team": "a", "floor": "2"}, "message": "whose"})
    await deployer.ok("PATCH", "/deployments/churn", {"metadata": {"floor": None}})
    page = await deployer.ok("GET", "/deployments/churn/revisions?count=true")
    assert page["total"] == 3
    last, second, first = page["items"]
    assert second["by"] == "ana"
    assert second["message"] == "whose"
    assert second["diff"] == [
        {"path": "/metadata/floor", "before": None, "after": "2"},
        {"path": "/metadata/team", "before": None, "after": "a"},
    ]
    assert last["diff"] == [{"path": "/metadata/floor", "before": "2", "after": None}]
    assert first["spec"]["versions"][0]["digest"].startswith("sha256:")
    assert await deployer.ok("GET", "/deployments/churn/revisions/2") == second
    short = await deployer.ok("GET", "/deployments/churn/revisions?limit=1")
    assert short["items"] == [last]
    rest = await deployer.ok("GET", f"/deployments/churn/revisions?cursor={short['next']}")
    assert rest["items"] == [second, first]


async def test_roll_back_makes_a_new_revision(deployer: Deployer) -> None:
    await deployer.deploy(replicas=2)
    await deployer.ok("POST", "/deployments/churn/versions", {"model": "risk/churn/2"})
    await deployer.ok("PATCH", "/deployments/churn", {"traffic": {"weights": {"2": 30}}, "description": "both"})
    started = len(deployer.platform.started)
    document = await deployer.ok("POST", "/deployments/churn/rollback?wait=settled&timeout=10", {"revision": 1})
    assert [version["number"] for version in document["versions"]] == [1]
    assert document["traffic"]["weights"] == {"1": 100}
    assert (document["description"], document["revision"]) == ("", 4)
    assert document["message"] == "roll back to revision 1"
    assert document["status"]["phase"] == "Deployed"
    assert len([name for name in deployer.platform.started[started:] if "-1-" in name]) == 0  # version 1 went on
    again = await deployer.ok("POST", "/deployments/churn/rollback", {"revision": 3})
    assert [version["number"] for version in again["versions"]] == [1, 2]  # the same thing under its number
    assert again["traffic"]["weights"] == {"1": 70, "2": 30}
    nothing = await deployer.ok("POST", "/deployments/churn/rollback", {"revision": 3})
    assert nothing["revision"] == again["revision"]
    refused = await deployer.call("POST", "/deployments/churn/rollback", {"revision": 99})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/revision")


async def test_versions_come_and_go_under_their_numbers(deployer: Deployer) -> None:
    await deployer.deploy()
    added = await deployer.call("POST", "/deployments/churn/versions", {"model": "risk/churn/2", "message": "two"})
    assert added.status_code == 201
    assert added.headers["location"].endswith("/deployments/churn/versions/2")
    shown = await deployer.call("GET", "/deployments/churn/versions/2")
    assert shown.headers["etag"] == added.headers["etag"]
    assert added.json()["traffic"]["weights"] == {"1": 100, "2": 0}
    replaced = await deployer.ok("PUT", "/deployments/churn/versions/2", {"model": "risk/churn@champion"})
    assert replaced["versions"][1]["model"] == "risk/churn@champion"
    await deployer.ok("PATCH", "/deployments/churn", {"traffic": {"weights": {"1": 25, "2": 75}}})
    left = await deployer.ok("DELETE", "/deployments/churn/versions/1?message=gone")
    assert left["traffic"]["weights"] == {"2": 100}
    again = await deployer.ok("POST", "/deployments/churn/versions", {"model": "risk/churn/1"})
    assert [version["number"] for version in again["versions"]] == [2, 3]
    reused = await deployer.call("PATCH", "/deployments/churn", {"versions": [{"number": 1, "model": "risk/churn/1"}]})
    assert (reused.status_code, reused.json()["errors"][0]["pointer"]) == (422, "/versions/0/number")
    assert (await deployer.call("PUT", "/deployments/churn/versions/1", {"model": "risk/churn/1"})).status_code == 404
    await deployer.ok("DELETE", "/deployments/churn/versions/2")
    assert (await deployer.call("DELETE", "/deployments/churn/versions/3")).status_code == 422
    for _ in range(5):
        await deployer.ok("POST", "/deployments/churn/versions", {"model": "risk/churn/1"})
    full = await deployer.call("POST", "/deployments/churn/versions", {"model": "risk/churn/1"})
    assert (full.status_code, full.json()["code"], full.json()["limit"]) == (409, "limit_reached", 6)


async def test_weights(deployer: Deployer) -> None:
    body = {"id": "churn", "versions": [{"model": "risk/churn/1"}, {"model": "risk/churn/2"}]}
    for weights, outcome in (
        ({"1": 90, "2": 10}, {"1": 90, "2": 10}),
        ({"2": 10}, {"1": 90, "2": 10}),
        ({}, {"1": 100, "2": 0}),
        ({"1": 90, "2": 20}, "weights_exceed_total"),
        ({"1": 20, "2": 20}, "validation_failed"),
        ({"3": 20}, "validation_failed"),
        ({"1": -1}, "validation_failed"),
    ):
        traffic = {"traffic": {"weights": weights}}
        answer = await deployer.call("POST", "/deployments?dry_run=true", {**body, **traffic})
        assert (answer.json()["traffic"]["weights"] if answer.is_success else answer.json()["code"]) == outcome


async def test_an_alias_is_resolved_when_it_is_given(deployer: Deployer) -> None:
    body = {"group": "risk", "versions": [{"model": "risk/churn@champion"}]}
    made = await deployer.call("PUT", "/deployments/churn", body)
    assert made.status_code == 201
    assert made.json()["status"]["versions"][0]["model"] == "risk/churn/2"
    same = await deployer.call("PUT", "/deployments/churn", body)
    assert (same.status_code, same.json()["revision"]) == (200, 1)
    async with deployer.core.sessions.begin() as session:
        await session.execute(update(ModelAlias).values(number=3))
    patched = await deployer.ok(
        "PATCH", "/deployments/churn", {"versions": [{"model": "risk/churn@champion", "replicas": 2}]}
    )
    assert patched["revision"] == 2
    revision = await deployer.ok("GET", "/deployments/churn/revisions/2")
    assert revision["spec"]["versions"][0]["model"] == "risk/churn/2"
    await deployer.ok("PUT", "/deployments/churn", body)
    revision = await deployer.ok("GET", "/deployments/churn/revisions/3")
    assert [change["path"] for change in revision["diff"]] == ["/versions/1/digest", "/versions/1/model"]
    assert revision["spec"]["versions"][0]["replicas"] == {"min": 2, "max": 2}  # left out, it stays


async def test_id_and_group_never_change(deployer: Deployer) -> None:
    await deployer.deploy()
    whole = {"versions": [{"model": "risk/churn/1"}]}
    for body in ({"id": "other", **whole}, {"group": "other", **whole}):
        assert (await deployer.call("PUT", "/deployments/churn", body)).status_code == 422
    for body in ({"id": "other"}, {"group": "other"}, {"unheard": 1}, {"status": {}}):
        answer = await deployer.call("PATCH", "/deployments/churn", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{next(iter(body))}")
    taken = await deployer.call("POST", "/deployments", {"id": "churn", "model": "risk/churn/1"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")


async def test_what_it_refers_to_must_be_there(deployer: Deployer) -> None:
    other = await deployer.people.add("eve", groups=[("eves", "edit")])
    for body, pointer in (
        ({"model": "risk/churn/9"}, "/model"),
        ({"model": "risk/churn@nobody"}, "/model"),
        ({"model": "risk/nothing"}, "/model"),
        ({"model": "risk/churn/1", "instance_type": "vip"}, "/instance_type"),
        ({"model": "risk/churn/1", "runtime": "abacus"}, "/runtime"),
        ({"versions": [{"model": "risk/churn/1"}, {"model": "risk/churn/8"}]}, "/versions/1/model"),
    ):
        answer = await deployer.call("POST", "/deployments", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text
    foreign = await deployer.call("POST", "/deployments", {"group": "eves", "model": "risk/churn/1"}, by=other)
    assert (foreign.status_code, foreign.json()["errors"][0]["pointer"]) == (422, "/model")


@pytest.mark.parametrize(
    ("what", "pointer"),
    [
        (select(InstanceType).where(InstanceType.id == "cpu-4"), "/instance_type"),
        (select(ModelVersion).join(Model).where(Model.name == "churn", ModelVersion.number == 3), "/model"),
    ],
)
async def test_what_is_being_removed_is_waited_for(
    deployer: Deployer, what: Select[InstanceType] | Select[ModelVersion], pointer: str
) -> None:
    """As the registry removes: lock, look whether a deployment uses it, delete."""
    async with deployer.core.sessions.begin() as session:
        row = (await session.execute(what.with_for_update())).scalar_one()
        body = {"model": "risk/churn/3", "instance_type": "cpu-4"}
        creating = asyncio.create_task(deployer.call("POST", "/deployments", body))
        await eventually(lambda: _waits_for_a_lock(deployer))
        await session.delete(row)
    answer = await creating
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def _waits_for_a_lock(deployer: Deployer) -> bool:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with deployer.core.sessions() as session:
        return (await session.execute(waiting)).scalar_one() > 0


async def test_an_instance_type_that_is_gone_moves_nothing(deployer: Deployer) -> None:
    await deployer.deploy()
    started = list(deployer.platform.started)
    async with deployer.core.sessions.begin() as session:
        await session.execute(update(InstanceType).where(InstanceType.id == "cpu-1").values(groups=["vips"]))
    document = await deployer.ok("PATCH", "/deployments/churn/versions/1?wait=settled&timeout=10", {"replicas": 2})
    assert document["status"]["phase"] == "Deployed"
    assert deployer.platform.started[:1] == started
    assert (await deployer.call("POST", "/deployments", {"model": "risk/churn/1"})).json()["versions"][0][
        "instance_type"
    ] == "cpu-4"


async def test_lists(deployer: Deployer) -> None:
    bob = await deployer.people.add("bob", groups=[("risk", "edit"), ("bobs", "edit")])
    for number in range(5):
        await deployer.ok("POST", "/deployments", {"id": f"d-{number}", "model": "risk/churn/1", "name": f"N{number}"})
    await deployer.ok("POST", "/deployments", {"id": "bobs", "group": "bobs", "model": "risk/fraud/1"}, by=bob)
    await deployer.until_phase("Deployed", "d-4")

    async def ids(query: str, by: dict[str, str] | None = None) -> list[str]:
        found, cursor = [], ""
        while True:
            page = await deployer.ok("GET", f"/deployments?limit=2&{query}{cursor}", by=by)
            found += [item["id"] for item in page["items"]]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    mine = [f"d-{number}" for number in range(5)]
    assert await ids("") == mine
    assert await ids("", bob) == ["bobs", *mine]
    assert await ids("sort=-id") == mine[::-1]
    assert await ids("sort=-name") == mine[::-1]
    assert await ids("sort=updated_at") == mine
    assert await ids("sort=-updated_at") == mine[::-1]
    assert await ids("group=bobs&group=risk&mine=true", bob) == ["bobs"]
    assert await ids("group=bobs") == []
    assert await ids("q=n3") == ["d-3"]
    assert await ids("q=D n%25") == []
    assert await ids("q=d- n1") == ["d-1"]
    assert "d-4" in await ids("phase=Deployed&phase=Failed")
    assert await ids("phase=Stopped") == []
    assert (await deployer.ok("GET", "/deployments?count=true&limit=1"))["total"] == 5
    cursor = (await deployer.ok("GET", "/deployments?limit=1"))["next"]
    assert (await deployer.call("GET", f"/deployments?sort=name&cursor={cursor}")).status_code == 422
