"""Where a caller is, as our services are told: by the connection, or by the proxies that are known to be before us."""

from pathlib import Path

from tests.gateway.envoy.harness import ControlPlane, Envoy, call, stubs

ME = "127.0.0.1"
FORGED = (
    ("X-Envoy-External-Address", "6.6.6.6"),
    ("x-envoy-external-address", "6.6.6.7"),
    ("X-Envoy-Internal", "true"),
    ("X-Real-IP", "6.6.6.8"),
    ("Forwarded", "for=6.6.6.9"),
)


async def told(envoy: Envoy, *forwarded: str) -> list[str]:
    headers = [*FORGED, *(("X-Forwarded-For", each) for each in forwarded)]
    answer = await call(envoy, "/api/v1/me", headers=headers)
    assert "x-envoy-internal" not in dict(answer.model_saw)
    return [value for name, value in answer.model_saw if name == "x-envoy-external-address"]


async def test_it_is_that_of_the_connection_whatever_a_caller_says(tmp_path: Path) -> None:
    async with stubs("api") as (api,), ControlPlane(tmp_path / "snapshot.db") as plane:
        await plane.start()
        with Envoy(tmp_path, xds=plane.port, services=api.port) as envoy:
            await envoy.ready()
            for forwarded in ((), ("203.0.113.1",), ("203.0.113.1, 10.0.0.1", "10.0.0.2"), ("::1",), (",",), ("x",)):
                assert await told(envoy, *forwarded) == [ME]


async def test_so_many_proxies_are_believed_as_there_are(tmp_path: Path) -> None:
    async with stubs("api") as (api,), ControlPlane(tmp_path / "snapshot.db") as plane:
        await plane.start()
        with Envoy(tmp_path, xds=plane.port, services=api.port, trusted_proxies=2) as envoy:
            await envoy.ready()
            # The caller, who may have sent anything, and the first of the two proxies, as the second has seen it.
            assert await told(envoy, "203.0.113.9, 10.0.0.1") == ["203.0.113.9"]
            assert await told(envoy, "6.6.6.6, 203.0.113.9, 10.0.0.1") == ["203.0.113.9"]
            assert await told(envoy, "6.6.6.6", "203.0.113.9", "10.0.0.1") == ["203.0.113.9"]
            for too_few in ((), ("203.0.113.9",), ("x, 10.0.0.1",)):
                assert await told(envoy, *too_few) == [ME]
