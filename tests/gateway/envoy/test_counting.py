"""What Envoy counts, under which names: the contract with services/metrics (docs/data-plane.md, "Counting")."""

from pathlib import Path
from typing import Any

from services.gateway.envoy.model import EndpointClient
from tests.gateway.envoy.harness import BEARER, TOKEN, ControlPlane, Envoy, call, routes, stubs


def counters(stats: list[dict[str, Any]]) -> dict[str, int]:
    return {stat["name"]: stat["value"] for stat in stats if "name" in stat}


def histograms(stats: list[dict[str, Any]]) -> dict[str, int]:
    details = [each for stat in stats if "histograms" in stat for each in stat["histograms"]["details"]]
    return {each["name"]: sum(bin_["count"] for bin_ in each["totals"]) for each in details}


async def test_requests_and_latencies_by_deployment_version_code_and_client(tmp_path: Path) -> None:
    async with stubs("one") as (one,), ControlPlane(tmp_path / "snapshot.db") as plane:
        dotted = "moor_ci.prod_" + "x" * 43
        clients = (EndpointClient.of_token("ana", TOKEN), EndpointClient.of_token("ci.prod", dotted))
        await plane.start(
            routes({1: one, 2: one}, {1: 100}, clients=clients),
            routes({1: one}, {1: 100}, deployment="open", access="public"),
            routes({}, {}, deployment="off", stopped=True),
        )
        with Envoy(tmp_path, xds=plane.port, services=one.port) as envoy:
            await envoy.ready()
            for path, headers in [
                ("/deployment/churn/x", BEARER),
                ("/deployment/churn/y", BEARER),
                ("/deployment/churn/versions/2/x", BEARER),
                ("/predict/churn/1", {"authorization": f"Bearer {dotted}"}),
                ("/deployment/churn/x", {}),
                ("/deployment/churn/x", {"authorization": "Bearer moor_eve_forged", "x-forwarded-user": "ana"}),
                ("/deployment/open/x", {"x-forwarded-user": "ana"}),
                ("/deployment/off/x", BEARER),
                ("/deployment/no-such/x", BEARER),
                ("/api/v1/me", {}),
            ]:
                await call(envoy, path, headers=headers)
            stats = await envoy.stats()
    assert counters(stats) == {
        "moorage.requests.deployment.churn.version.churn/1.code.200.client.ana": 2,
        "moorage.requests.deployment.churn.version.churn/2.code.200.client.ana": 1,
        "moorage.requests.deployment.churn.version.churn/1.code.200.client.ci.prod": 1,
        # Refused before a version was asked; Envoy had drawn one already.
        "moorage.requests.deployment.churn.version.churn/1.code.401.client.": 2,
        "moorage.requests.deployment.open.version.open/1.code.200.client.": 1,
        "moorage.requests.deployment.off.version..code.503.client.ana": 1,
        # What has no route is one series, whatever it asks for: nobody can make series by asking.
        "moorage.requests.deployment..version..code.401.client.": 1,
        "moorage.requests.deployment.@gateway.version.gateway.code.200.client.": 1,
    }
    assert histograms(stats) == {
        "moorage.latency.deployment.churn.version.churn/1.code.200": 3,
        "moorage.latency.deployment.churn.version.churn/2.code.200": 1,
        "moorage.latency.deployment.churn.version.churn/1.code.401": 2,
        "moorage.latency.deployment.open.version.open/1.code.200": 1,
        "moorage.latency.deployment.off.version..code.503": 1,
        "moorage.latency.deployment..version..code.401": 1,
        "moorage.latency.deployment.@gateway.version.gateway.code.200": 1,
    }
