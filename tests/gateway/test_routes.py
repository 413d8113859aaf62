"""Routes follow the rows, and `routes` follows Envoy: weights, replicas, deletions, restarts, lost hints, refusals."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import func, insert, select, update

from services.gateway.envoy.publisher import Enforced
from shared.events import deployer, new_event
from shared.schema import Deployment, OutboxEntry, Replica, Route
from tests.gateway.envoy.harness import Envoy, Stub, basic, call, until
from tests.gateway.world import Gateway, running_gateway, settings_of


async def shares(envoy: Envoy, calls: int = 40) -> Counter[str]:
    """Who answers the deployment's own address."""
    async with httpx.AsyncClient(base_url=envoy.url) as http:
        answers = [await http.get("/deployment/churn/x") for _ in range(calls)]
    return Counter(
        answer.json()["name"] if answer.status_code == 200 else str(answer.status_code) for answer in answers
    )


async def test_weights_are_in_force_once_they_are_recorded(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one, Stub("two") as two:
        uid = await gateway.deployer.deploy("churn", {1: one, 2: two}, {1: 100, 2: 0}, access="public")
        await gateway.deployer.settled(uid)
        for weights, answering in (
            ({1: 0, 2: 100}, {"two"}),
            ({1: 100, 2: 0}, {"one"}),
            ({1: 50, 2: 50}, {"one", "two"}),
        ):
            await gateway.deployer.change("churn", weights=weights)
            route = await gateway.deployer.settled(uid)
            assert route.weights == {str(version): weight for version, weight in weights.items()}
            assert set(await shares(envoy)) == answering


async def test_a_version_without_replicas_gets_nothing_until_it_has_one(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "read")])
    async with Stub("one") as one, Stub("two") as two:
        uid = await gateway.deployer.deploy("churn", {1: one, 2: []}, {1: 30, 2: 70}, access="public")
        route = await gateway.deployer.settled(uid)
        assert route.weights == {"1": 100, "2": 0}
        assert set(await shares(envoy)) == {"one"}
        endpoint = (await gateway.http.get("/api/v1/deployments/churn/endpoint", headers=ana)).json()
        assert endpoint["enforced"] is False
        assert "no ready replica" in endpoint["reason"]

        await gateway.deployer.route_to("churn", 2, [two])
        route = await gateway.deployer.settled(uid)
        assert (route.weights, route.endpoints_generation) == ({"1": 30, "2": 70}, 2)
        assert set(await shares(envoy)) == {"one", "two"}
        endpoint = (await gateway.http.get("/api/v1/deployments/churn/endpoint", headers=ana)).json()
        assert (endpoint["enforced"], endpoint["reason"]) == (True, None)


async def test_what_is_recorded_as_replaced_is_not_called_any_more(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("old") as old, Stub("new") as new:
        uid = await gateway.deployer.deploy("churn", {1: old}, access="public")
        await gateway.deployer.settled(uid)
        await gateway.deployer.route_to("churn", 1, [new])
        await gateway.deployer.settled(uid)
        before = old.requests
        assert set(await shares(envoy)) == {"new"}
        assert old.requests == before


async def test_stopped_says_so_and_started_answers(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one:
        uid = await gateway.deployer.deploy("churn", {1: one}, access="public")
        await gateway.deployer.settled(uid)
        await gateway.deployer.change("churn", stopped=True)
        await gateway.deployer.settled(uid)
        answer = await call(envoy, "/deployment/churn/x")
        assert (answer.status, answer.body["code"]) == (503, "deployment_stopped")
        await gateway.deployer.change("churn", stopped=False)
        await gateway.deployer.settled(uid)
        assert (await call(envoy, "/deployment/churn/x")).status == 200


async def test_deleted_and_made_again_under_the_same_id(gateway: Gateway, envoy: Envoy) -> None:
    """Tokens of the first do not open the second, and the first is acknowledged as gone on its own row."""
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("first") as first, Stub("second") as second:
        old = await gateway.deployer.deploy("churn", {1: first})
        token = (await gateway.client("churn", "batch", ana))["token"]
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", token))).status == 200
        await gateway.deployer.settled(old)

        await gateway.deployer.delete("churn")
        new = await gateway.deployer.deploy("churn", {1: second})
        assert (await gateway.deployer.settled(new)).weights == {"1": 100}
        assert (await gateway.deployer.settled(old)).weights == {}
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", token))).status == 401
        token = (await gateway.client("churn", "batch", ana))["token"]
        answer = await call(envoy, "/deployment/churn/x", headers=basic("batch", token))
        assert (answer.status, answer.body["name"]) == (200, "second")

        await gateway.deployer.purge(old)
        await gateway.deployer.delete("churn")
        assert (await gateway.deployer.settled(new)).weights == {}
        await gateway.deployer.purge(new)
        await until(lambda: "churn" not in gateway.parts.reconciler._plans, what="forgotten")
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", token))).status == 401


async def test_a_restart_changes_nothing_and_writes_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment, tmp_path)
    with Envoy(tmp_path, xds=int(settings["MOORAGE_XDS_PORT"])) as envoy:
        async with Stub("one") as one:
            async with running_gateway(settings) as gateway:
                ana = await gateway.people.add("ana", groups=[("risk", "edit")])
                kept = await gateway.deployer.deploy("kept", {1: one})
                dropped = await gateway.deployer.deploy("dropped", {1: one}, access="public")
                client = await gateway.client("kept", "batch", ana)
                short = await gateway.client("kept", "short", ana, expires_at=_in_a_second())
                before = await gateway.deployer.settled(kept)
                await gateway.deployer.settled(dropped)
            headers = basic("batch", client["token"])
            assert (await call(envoy, "/deployment/kept/x", headers=headers)).status == 200
            deployer = gateway.deployer
            await deployer.delete("dropped")  # nobody sees it now
            await until(lambda: datetime.now(UTC) > _parsed(short["expires_at"]))
            async with running_gateway(settings) as gateway:
                await deployer.settled(dropped)
                assert (await call(envoy, "/deployment/dropped/x")).status == 401
                assert (await call(envoy, "/deployment/kept/x", headers=headers)).status == 200
                assert (await call(envoy, "/deployment/kept/x", headers=basic("short", short["token"]))).status == 401
                after = await deployer.settled(kept)
                assert after.enforced_at == before.enforced_at
                assert list(await gateway.parts.reconciler.stale()) == []


async def test_a_lost_hint_costs_time_and_nothing_else(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one, Stub("two") as two:
        uid = await gateway.deployer.deploy("churn", {1: one, 2: two}, {1: 100, 2: 0}, access="public")
        await gateway.deployer.settled(uid)
        weights = {"traffic": {"weights": {"1": 0, "2": 100}}}
        changed = update(Deployment).where(Deployment.uid == uid)
        changed = changed.values(generation=2, spec=Deployment.spec.op("||")(weights))
        event = new_event(deployer.DEPLOYMENT_CHANGED, str(uid), {"id": "churn", "group": "risk", "generation": 2})
        async with gateway.deployer.sessions.begin() as session:
            await session.execute(changed)
            assert list(await gateway.parts.reconciler.stale()) == []
        assert list(await gateway.parts.reconciler.stale()) == ["churn"]  # the resync would find it

        # Only the event, without the NOTIFY that goes with it.
        async with gateway.deployer.sessions.begin() as session:
            row = {"topic": "moorage.deployer", "key": str(uid), "event": event.model_dump(mode="json")}
            await session.execute(insert(OutboxEntry).values(row))
        await gateway.deployer.settled(uid)
        assert set(await shares(envoy)) == {"two"}


async def test_what_envoy_refuses_is_reported_and_the_last_good_state_stays(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as one:
        uid = await gateway.deployer.deploy("churn", {1: one}, access="public")
        await gateway.deployer.settled(uid)
        async with gateway.deployer.sessions.begin() as session:
            await session.execute(update(Replica).where(Replica.uid == uid).values(host="not an address"))
        await gateway.deployer.change("churn", description="its replica has an address that Envoy cannot read")

        async def rejected() -> Route | None:
            route = await gateway.deployer.route(uid)
            return route if route and route.rejected else None

        route = await until(rejected, what="the refusal is recorded")
        assert (route.generation, route.weights) == (1, {"1": 100})
        assert set(await shares(envoy)) == {"one"}
        endpoint = (await gateway.http.get("/api/v1/deployments/churn/endpoint", headers=ana)).json()
        assert endpoint["enforced"] is False
        assert "Envoy refuses it" in endpoint["reason"]
        refused = await gateway.http.post("/api/v1/deployments/churn/clients", json={"name": "a"}, headers=ana)
        assert (refused.status_code, refused.json()["enforced"]) == (201, False)

        await gateway.deployer.route_to("churn", 1, [one])
        await gateway.deployer.change("churn", description="good again")
        assert (await gateway.deployer.settled(uid)).rejected is None


async def test_weights_of_a_broken_row_are_reported_and_hurt_nobody_else(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one:
        broken = await gateway.deployer.deploy("broken", {1: one}, {1: 60}, access="public")
        good = await gateway.deployer.deploy("churn", {1: one}, access="public")
        await gateway.deployer.settled(good)

        async def told() -> str | None:
            route = await gateway.deployer.route(broken)
            return route.rejected if route else None

        assert "sum to 60" in await until(told)
        assert set(await shares(envoy)) == {"one"}


async def test_broken_rows_leave_the_last_good_routes_also_over_a_restart(
    environment: dict[str, str], tmp_path: Path
) -> None:
    settings = settings_of(environment, tmp_path)
    with Envoy(tmp_path, xds=int(settings["MOORAGE_XDS_PORT"])) as envoy:
        async with Stub("one") as one:
            async with running_gateway(settings) as gateway:
                deployer = gateway.deployer
                uid = await deployer.deploy("churn", {1: one}, access="public")
                await deployer.settled(uid)
                assert set(await shares(envoy)) == {"one"}
            await deployer.change("churn", weights={1: 60})
            async with running_gateway(settings) as gateway:

                async def told() -> str | None:
                    route = await deployer.route(uid)
                    return route.rejected if route else None

                assert "sum to 60" in await until(told)
                await until(lambda: gateway.parts.reconciler._store.connected, what="Envoy is back")
                other = await deployer.deploy("other", {1: one}, access="public")
                await deployer.settled(other)  # so it has what was loaded, too
                assert set(await shares(envoy)) == {"one"}
                await deployer.change("churn", weights={1: 100})
                assert (await deployer.settled(uid)).rejected is None
            await deployer.change("churn", weights={1: 60})
            async with running_gateway(settings):
                await until(told)
                await deployer.delete("churn")
                await deployer.settled(uid)
                assert set(await shares(envoy)) == {"401"}


async def test_the_answer_waits_for_envoy_and_not_for_what_is_written_about_it(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one, Stub("two") as two:
        uid = await gateway.deployer.deploy("churn", {1: one, 2: two}, {1: 100, 2: 0}, access="public")
        await gateway.deployer.settled(uid)
        async with gateway.deployer.sessions.begin() as session:
            await session.execute(select(Route).where(Route.uid == uid).with_for_update())
            await gateway.deployer.change("churn", weights={1: 0, 2: 100})
            outcome = await gateway.parts.reconciler.enforce("churn", within=5)
            assert isinstance(outcome, Enforced)
            assert set(await shares(envoy)) == {"two"}
        assert (await gateway.deployer.settled(uid)).weights == {"1": 0, "2": 100}


async def test_many_changes_at_once_end_where_the_rows_end(gateway: Gateway, envoy: Envoy) -> None:
    async with Stub("one") as one, Stub("two") as two:
        uids = [
            await gateway.deployer.deploy(f"churn-{number}", {1: one, 2: two}, {1: 100, 2: 0}, access="public")
            for number in range(10)
        ]

        async def shift(number: int) -> None:
            for step in range(5):
                await gateway.deployer.change(f"churn-{number}", weights={1: 100 * (step % 2), 2: 100 * (1 - step % 2)})

        await asyncio.gather(*(shift(number) for number in range(10)))
        for number, uid in enumerate(uids):
            assert (await gateway.deployer.settled(uid)).weights == {"1": 0, "2": 100}
            assert (await call(envoy, f"/deployment/churn-{number}/x")).body["name"] == "two"
        async with gateway.deployer.sessions() as session:
            assert (await session.execute(select(func.count()).select_from(Route))).scalar_one() == 10


def _in_a_second() -> str:
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 1, UTC).isoformat()


def _parsed(at: str) -> datetime:
    return datetime.fromisoformat(at)
