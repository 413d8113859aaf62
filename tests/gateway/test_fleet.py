"""Several gateways, each with Envoys of its own: what is enforced is so everywhere, and who is gone is not waited for
for ever."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from services.gateway.commands import record_route
from services.gateway.domain import Record
from shared.database import Direct, create_engine, create_sessions
from shared.schema.endpoints import Envoy as EnvoyRow
from tests.gateway.envoy.harness import Envoy, Stub, basic, call, until
from tests.gateway.world import Deployer, Gateway, running_gateway, settings_of

GatewayOf = Callable[..., AbstractAsyncContextManager[Gateway]]
CLIENTS = "/api/v1/deployments/churn/clients"


@pytest.fixture
def gateway_of(environment: dict[str, str], tmp_path: Path) -> GatewayOf:
    """Gateways of one installation, by name. `gone` is how many seconds an Envoy counts after the last word of it."""

    @asynccontextmanager
    async def running(name: str, *, gone: float = 60, xds: int = 0) -> AsyncIterator[Gateway]:
        folder = tmp_path / name
        folder.mkdir()
        own = {"MOORAGE_GATEWAY_NAME": name, "MOORAGE_ENVOY_GONE_SECONDS": str(gone)}
        if xds:
            own["MOORAGE_XDS_PORT"] = str(xds)
        async with running_gateway(settings_of(environment, folder) | own) as gateway:
            yield gateway

    return running


@asynccontextmanager
async def fed_by(gateway: Gateway, folder: Path, name: str) -> AsyncIterator[Envoy]:
    """An Envoy of this gateway's, that is noted down as such."""
    with Envoy(folder, xds=gateway.settings.xds_port, name=name) as envoy:
        await envoy.ready()
        await until(lambda: name in gateway.parts.reconciler._store._expected, what=f"{name} is noted down")
        yield envoy


async def test_every_gateways_envoys_have_to_follow(gateway_of: GatewayOf, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        one, two = await enter(Stub("one")), await enter(Stub("two"))
        here, there = await enter(gateway_of("here")), await enter(gateway_of("there"))
        envoys = [await enter(fed_by(here, tmp_path, "edge-1")), await enter(fed_by(there, tmp_path, "edge-2"))]
        await until(lambda: all(each.parts.reconciler._fleet.others for each in (here, there)))
        ana = await here.people.add("ana", groups=[("risk", "edit")])
        uid = await here.deployer.deploy("churn", {1: one, 2: two}, {1: 100, 2: 0})
        await here.deployer.settled(uid)

        # Let in and out again by one gateway, it is so at the other's Envoy once that is answered.
        for number in range(5):
            client = await here.client("churn", f"batch-{number}", ana)
            assert client["enforced"] is True, client
            headers = basic(f"batch-{number}", client["token"])
            assert [(await call(each, "/deployment/churn/x", headers=headers)).status for each in envoys] == [200, 200]
            revoked = await there.http.delete(f"{CLIENTS}/batch-{number}", headers=ana)
            assert revoked.json()["enforced"] is True, revoked.text
            assert [(await call(each, "/deployment/churn/x", headers=headers)).status for each in envoys] == [401, 401]
        client = await here.client("churn", "batch", ana)
        headers = basic("batch", client["token"])

        # One Envoy hangs. Nothing is said to be enforced, neither in the rows nor in an answer, until it follows.
        envoys[1].signal(signal.SIGSTOP)
        # One who is let in and out again leaves the clients as they were, which is not to say that it is out there.
        passing = {"params": {"timeout": 0.5}, "headers": ana}
        await here.http.post(CLIENTS, json={"name": "passing"}, **passing)
        assert (await here.http.delete(f"{CLIENTS}/passing", **passing)).json()["enforced"] is False
        await here.deployer.change("churn", weights={1: 0, 2: 100})
        answer = await here.http.delete(f"{CLIENTS}/batch", params={"timeout": 1}, headers=ana)
        assert answer.json()["enforced"] is False
        assert "gateway there" in answer.json()["reason"]
        route = await here.deployer.route(uid)
        assert route is not None
        assert (route.generation, route.acks["here"]["generation"]) == (1, 2)
        assert (await call(envoys[0], "/deployment/churn/x", headers=headers)).status == 401
        envoys[1].signal(signal.SIGCONT)
        assert (await here.deployer.settled(uid)).weights == {"1": 0, "2": 100}
        assert (await call(envoys[1], "/deployment/churn/x", headers=headers)).status == 401


async def test_a_gateway_without_envoys_answers_for_the_others(gateway_of: GatewayOf, tmp_path: Path) -> None:
    async with gateway_of("here") as here, gateway_of("idle") as idle, Stub("one") as one:
        ana = await here.people.add("ana", groups=[("risk", "edit")])
        async with fed_by(here, tmp_path, "edge") as envoy:
            uid = await here.deployer.deploy("churn", {1: one})
            await here.deployer.settled(uid)
            await until(lambda: idle.parts.reconciler._fleet.others)
            client = await idle.client("churn", "batch", ana)
            assert client["enforced"] is True
            answer = await call(envoy, "/deployment/churn/x", headers=basic("batch", client["token"]))
            assert answer.status == 200

            # An Envoy may start cold from its snapshot: who is revoked is not to be found there.
            snapshots = [each.parts.reconciler._publisher._snapshot.versions for each in (here, idle)]
            before = dict(snapshots[0])
            await here.http.delete(f"{CLIENTS}/batch", headers=ana)
            assert snapshots[0]["churn"] != before["churn"]
            await until(lambda: snapshots[1] == snapshots[0], what="the other's snapshot has it too")


async def test_an_envoy_without_a_gateway_counts_until_another_has_brought_it_up_to_date(
    gateway_of: GatewayOf, tmp_path: Path
) -> None:
    """It goes on routing by what it had; so what it has not acknowledged is not enforced."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        one, two, here = await enter(Stub("one")), await enter(Stub("two")), await enter(gateway_of("here"))
        await enter(fed_by(here, tmp_path, "edge-1"))
        deployer = here.deployer
        async with AsyncExitStack() as life:
            dies = await life.enter_async_context(gateway_of("dies"))
            orphan = await enter(fed_by(dies, tmp_path, "edge-2"))
            uid = await deployer.deploy("churn", {1: one, 2: two}, {1: 100, 2: 0}, access="public")
            await deployer.settled(uid)
        await deployer.change("churn", weights={1: 0, 2: 100})

        async def said() -> bool:
            route = await deployer.route(uid)
            return bool(route and route.acks["here"]["generation"] == 2)

        await until(said, what="the Envoy of the gateway that lives follows")
        assert (await call(orphan, "/deployment/churn/x")).body["name"] == "one"
        route = await deployer.route(uid)
        assert route is not None
        assert route.generation == 1
        await enter(gateway_of("heir", xds=dies.settings.xds_port))
        assert (await deployer.settled(uid)).weights == {"1": 0, "2": 100}
        assert (await call(orphan, "/deployment/churn/x")).body["name"] == "two"


async def test_who_is_gone_for_good_is_not_waited_for_for_ever(gateway_of: GatewayOf, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        one, here = await enter(Stub("one")), await enter(gateway_of("here", gone=2))
        deployer = here.deployer
        await enter(fed_by(here, tmp_path, "edge-1"))
        uid = await deployer.deploy("churn", {1: one}, access="public")
        async with gateway_of("dies", gone=2) as dies, fed_by(dies, tmp_path, "edge-2"):
            async with fed_by(here, tmp_path, "edge-3"):
                await deployer.settled(uid)
            # An Envoy of a gateway that lives.
            await deployer.change("churn", stopped=True)
            await until(lambda: here.parts.reconciler._store.missing == {"edge-3"})
            before = await deployer.route(uid)
            assert before is not None
            assert before.generation == 1
            reader = await here.people.add("rita", groups=[("risk", "read")])
            page = (await here.http.get("/api/v1/deployments/churn/endpoint", headers=reader)).json()
            assert (page["enforced"], "edge-3" in page["reason"]) == (False, True)
            await deployer.settled(uid)
        # A gateway, and all its Envoys.
        await deployer.change("churn", stopped=False)

        async def said() -> bool:
            route = await deployer.route(uid)
            return bool(route and route.acks["here"]["generation"] == 3)

        await until(said)
        route = await deployer.route(uid)
        assert route is not None
        assert route.generation == 2
        assert set((await deployer.settled(uid)).acks) == {"here"}


async def test_gateways_that_record_at_once_hear_each_other(database_url: str) -> None:
    engine = create_engine(database_url, application="test", connections=4)
    sessions = create_sessions(engine)
    uid = await Deployer(sessions).deploy("churn", {})
    async with sessions.begin() as session:
        await session.execute(insert(EnvoyRow).values([{"node": n, "gateway": n} for n in ("a", "b", "c")]))

    direct = Direct(database_url, application="test", connections=4)
    await direct.open()

    async def say(gateway: str, generation: int) -> None:
        await record_route(direct, uid, "churn", gateway=gateway, record=Record(generation=generation))

    for generation in range(1, 20):
        await asyncio.gather(*(say(gateway, generation) for gateway in ("a", "b", "c")))
        route = await Deployer(sessions).route(uid)
        assert route is not None
        assert route.generation == generation
    await say("a", 20)
    async with sessions.begin() as session:
        await session.execute(delete(EnvoyRow).where(EnvoyRow.gateway != "a"))
    await record_route(direct, uid, "churn", gateway="a")
    route = await Deployer(sessions).route(uid)
    assert route is not None
    assert (route.generation, set(route.acks)) == (20, {"a"})
    await direct.close()
    await engine.dispose()


async def test_after_a_restart_all_envoys_that_were_there_are_waited_for(
    gateway_of: GatewayOf, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = settings_of(environment, tmp_path)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(Stub("one"))
        async with running_gateway(settings) as gateway:
            deployer = gateway.deployer
            uid = await deployer.deploy("churn", {1: one}, access="public")
            envoys = [await stack.enter_async_context(fed_by(gateway, tmp_path, name)) for name in ("edge-1", "edge-2")]
            await deployer.settled(uid)
            envoys[1].signal(signal.SIGSTOP)
        await deployer.change("churn", stopped=True)
        async with running_gateway(settings) as gateway:
            store = gateway.parts.reconciler._store
            await until(lambda: store.nodes >= {"edge-1"}, what="the first is back")
            await until(lambda: "churn" in gateway.parts.reconciler._publisher._good, what="and follows")
            route = await deployer.route(uid)
            assert route is not None
            assert route.generation == 1
            envoys[1].signal(signal.SIGCONT)
            await deployer.settled(uid)
