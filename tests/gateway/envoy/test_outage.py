"""The gateway dead, Envoy restarted, both: calls go on, tokens are checked, and nothing older ever comes back."""

import asyncio
import json
import random
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from services.gateway.envoy.publisher import Enforced
from services.gateway.envoy.resources import SCOPE
from services.gateway.envoy.snapshot import read_snapshot
from tests.gateway.envoy.harness import (
    BEARER,
    TOKEN,
    Child,
    ControlPlane,
    Envoy,
    Load,
    Stub,
    call,
    listens,
    routes,
    stubs,
    until,
)
from tests.support.ports import free_port

REVOKED = "moor_eve_" + "z" * 43
AS_EVE = {"authorization": f"Bearer {REVOKED}"}


def gateway(folder: Path, state: dict[str, Any]) -> Child:
    file = folder / "state.json"
    file.write_text(json.dumps(state))
    module = "tests.gateway.envoy.gateway_process"
    return Child([sys.executable, "-m", module, file, folder / "snapshot.db"], log=folder / "gateway.log", talks=True)


def snapshot_server(folder: Path, *, port: int, xds: int) -> Child:
    environment = {
        "MOORAGE_SNAPSHOT_PATH": str(folder / "snapshot.db"),
        "MOORAGE_SNAPSHOT_PORT": str(port),
        "MOORAGE_XDS_ADDRESS": f"127.0.0.1:{xds}",
    }
    command = [sys.executable, "-m", "services.gateway.snapshot"]
    return Child(command, log=folder / "snapshot.log", env=environment)


def state(one: Stub, two: Stub, *, port: int, version: int = 1, **clients: str) -> dict[str, Any]:
    return {
        "port": port,
        "one": one.port,
        "two": two.port,
        "weights": {str(version): 100},
        "clients": {"ana": TOKEN, **clients},
    }


async def serves(envoy: Envoy, name: str) -> bool:
    answer = await call(envoy, "/deployment/churn/x", headers=BEARER)
    return answer.status == 200 and answer.body["name"] == name


async def test_the_gateway_killed_again_and_again_under_load(tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        xds, failover = free_port(), free_port()
        with ExitStack() as stack:
            current = stack.enter_context(gateway(tmp_path, state(one, two, port=xds)))
            stack.enter_context(snapshot_server(tmp_path, port=failover, xds=xds))
            assert await current.hear() == "started"
            envoy = await stack.enter_context(Envoy(tmp_path, xds=xds, snapshot=failover)).ready()
            async with Load(envoy) as load:
                for version in (2, 1, 2):
                    # Killed amid a change; what it had not enforced, the next one does.
                    wanted = state(one, two, port=xds, version=version)
                    current.say(json.dumps(wanted))
                    await load.more(random.randrange(1, 60))
                    current.kill()
                    await load.more(100)
                    current = stack.enter_context(gateway(tmp_path, wanted))
                    assert await current.hear() == "started"
                    await until(lambda v=version: serves(envoy, {1: "one", 2: "two"}[v]))
                    await load.more(100)
                current.kill()
                await load.more(100)
            load.assert_none_failed()


async def test_a_cold_envoy_with_the_snapshot_server_alone(tmp_path: Path) -> None:
    """Every process but replicas and Envoy dead, then Envoy too: it comes back with the last acknowledged state."""
    async with stubs("one", "two") as (one, two):
        xds, failover = free_port(), free_port()
        with (
            gateway(tmp_path, state(one, two, port=xds, eve=REVOKED)) as dies,
            snapshot_server(tmp_path, port=failover, xds=xds),
        ):
            assert await dies.hear() == "started"
            with Envoy(tmp_path, xds=xds, snapshot=failover) as envoy:
                await envoy.ready()
                assert (await call(envoy, "/deployment/churn/x", headers=AS_EVE)).status == 200
                assert await dies.tell(json.dumps(state(one, two, port=xds, version=2))) == "Enforced"
                dies.kill()  # at once after its answer
                assert (await call(envoy, "/deployment/churn/x", headers=AS_EVE)).status == 401
            for name in ("cold", "colder"):
                with Envoy(tmp_path, xds=xds, snapshot=failover, name=name) as cold:
                    await cold.ready()
                    assert await serves(cold, "two")
                    assert (await call(cold, "/deployment/churn/x")).status == 401
                    assert (await call(cold, "/deployment/churn/x", headers=AS_EVE)).status == 401

            with Envoy(tmp_path, xds=xds, snapshot=failover, name="moves") as moves:
                await moves.ready()
                async with Load(moves) as load:
                    await load.more(50)
                    with gateway(tmp_path, state(one, two, port=xds, version=1)) as back:
                        assert await back.hear() == "started"
                        await until(lambda: serves(moves, "one"), what="Envoy moves over to the gateway")
                        await load.more(50)
                        assert await back.tell(json.dumps(state(one, two, port=xds, version=2))) == "Enforced"
                        assert await serves(moves, "two")
                    # Dead again: it keeps what it has.
                    await load.more(200)
                load.assert_none_failed()
                assert set(load.names) == {"one", "two"}


async def test_a_gateway_that_hangs_does_not_keep_the_snapshot_server_from_serving(tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        xds, failover = free_port(), free_port()
        with gateway(tmp_path, state(one, two, port=xds)) as dies:
            assert await dies.hear() == "started"
            with Envoy(tmp_path, xds=xds, snapshot=failover) as envoy:
                await envoy.ready()
                assert await dies.tell(json.dumps(state(one, two, port=xds, version=2))) == "Enforced"
            dies.kill()
        with (
            socket.create_server(("127.0.0.1", xds)),  # the kernel accepts for it, and nobody speaks
            snapshot_server(tmp_path, port=failover, xds=xds),
            Envoy(tmp_path, xds=xds, snapshot=failover, name="cold") as cold,
        ):
            await cold.ready(within=40)  # Envoy's keepalive takes its time to find out
            assert await serves(cold, "two")


PLATFORM_SCOPES = {
    f"@platform/{name}" for name in ("api", "openapi.json", "docs", "docs/errors", ".well-known/jwks.json")
}


async def test_the_snapshot_server_yields_to_the_gateway_and_is_small(tmp_path: Path) -> None:
    xds, failover = free_port(), free_port()
    async with ControlPlane(tmp_path / "snapshot.db", port=xds) as plane:
        with snapshot_server(tmp_path, port=failover, xds=xds) as server:
            await until(lambda: listens(failover))
            assert await scopes(failover) is None  # nothing is on disk: nothing is served
            await plane.start(routes({}, {}, deployment="first"))
            with Envoy(tmp_path, xds=xds) as envoy:
                await envoy.ready()
                await until(lambda: "first" in plane.snapshot.versions)
            assert await scopes(failover) is None  # the gateway is there
            await plane.server.stop()
            assert await scopes(failover) == {"first", "first/predict", *PLATFORM_SCOPES}
            plane.snapshot.write({"first": None})
            assert await scopes(failover) == PLATFORM_SCOPES  # the file is read anew for each who asks

            async with grpc.aio.insecure_channel(f"127.0.0.1:{failover}") as channel:
                stream = ask(channel)
                await stream.write(DeltaDiscoveryRequest(type_url=SCOPE))
                assert (await stream.read()).resources
                async with await asyncio.start_server(speak, "127.0.0.1", xds):
                    async with asyncio.timeout(2):
                        assert await stream.read() is grpc.aio.EOF

            assert psutil.Process(server.process.pid).memory_info().rss < 64 << 20
            server.signal(signal.SIGTERM)
            await until(lambda: server.process.poll() is not None)
            assert server.process.returncode == 0


async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a living HTTP/2 server says first: its SETTINGS, here none."""
    writer.write(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    writer.close()


def ask(channel: grpc.aio.Channel) -> Any:
    method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    return channel.stream_stream(method, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString)()


async def scopes(port: int) -> set[str] | None:
    """The scopes that are served there, without clusters; None if the stream is refused."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = ask(channel)
        try:
            await stream.write(DeltaDiscoveryRequest(type_url=SCOPE))
            async with asyncio.timeout(5):
                response = await stream.read()
        except grpc.aio.AioRpcError as error:
            # grpc itself says INTERNAL to whoever writes to a stream in the moment in which it is refused.
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
                raise
            return None
        return {entry.name for entry in response.resources}


async def test_who_comes_back_is_sent_the_differences_only(tmp_path: Path) -> None:
    async with stubs("one", "two") as (one, two):
        both = {1: one, 2: two}
        deployments = [routes(both, {1: 100}, deployment=f"d{number}") for number in range(50)]
        xds = free_port()
        async with ControlPlane(tmp_path / "snapshot.db", port=xds) as plane:
            await plane.start(*deployments)
            envoy = Envoy(tmp_path, xds=xds)
            with envoy:
                await envoy.ready()
                await until(lambda: len(plane.snapshot.versions) == 51)
                everything = plane.server.peers[0].sent
                await plane.stop()

                changed = routes(both, {2: 100}, deployment="d7")
                async with ControlPlane(tmp_path / "snapshot.db", port=xds) as again:
                    await again.start(*[changed if each.id == "d7" else each for each in deployments[:-1]])
                    await until(lambda: again.snapshot.versions.keys() == {"@platform", *(f"d{n}" for n in range(49))})
                    (peer,) = again.server.peers
                    assert everything == 50 * (2 + 2 + 2) + len(PLATFORM_SCOPES)
                    assert peer.sent == 2 + (2 + 2)  # two scopes; of the removed one two scopes, two clusters
                    assert (await call(envoy, "/deployment/d7/x", headers=BEARER)).body["name"] == "two"
                    assert (await call(envoy, "/deployment/d49/x", headers=BEARER)).status == 401
                    assert await again.publish(changed) == Enforced(changed)
        assert read_snapshot(tmp_path / "snapshot.db").keys() == {"@platform", *(f"d{n}" for n in range(49))}
