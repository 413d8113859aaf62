"""Routes in, Envoy's resources out, compared with golden files.

After a change that is meant: `UPDATE_GOLDEN=1 pytest tests/gateway/envoy/test_translate.py`, then read the diff.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from google.protobuf.json_format import MessageToDict

from services.gateway.envoy.model import DeploymentRoutes, Endpoint, EndpointClient, Overlap
from services.gateway.envoy.platform import platform_scopes
from services.gateway.envoy.resources import CLUSTER, ENDPOINTS, SCOPE, Bundle
from services.gateway.envoy.translate import translate

GOLDEN = Path(__file__).with_name("golden")
MESSAGES: dict[str, Any] = {CLUSTER: Cluster, ENDPOINTS: ClusterLoadAssignment, SCOPE: ScopedRouteConfiguration}

CLIENTS = (
    EndpointClient.of_token("ci.prod", "moor_ci.prod_secret"),
    EndpointClient.of_token("ana", "moor_ana_secret"),
)
SHA1_BEFORE = EndpointClient.of_token("ana", "moor_ana_secret").sha1
TWO_VERSIONS = {
    2: (Endpoint("r3", "10.0.0.3", 8000),),
    1: (Endpoint("r2", "10.0.0.2", 8000), Endpoint("r1", "10.0.0.1", 8000)),
}

CASES = {
    "private": DeploymentRoutes(
        id="churn", generation=7, clients=CLIENTS, versions=TWO_VERSIONS, weights={1: 90, 2: 10}
    ),
    "public": DeploymentRoutes(
        id="churn", generation=1, access="public", versions=TWO_VERSIONS, weights={2: 100, 1: 0}
    ),
    "stopped": DeploymentRoutes(id="churn", generation=8, clients=CLIENTS, stopped=True),
    "rotated": DeploymentRoutes(
        id="churn",
        generation=9,
        clients=(
            EndpointClient.of_token("ci.prod", "moor_ci.prod_secret"),
            replace(EndpointClient.of_token("ana", "moor_ana_2.new"), overlap=Overlap(SHA1_BEFORE, "2.")),
        ),
        versions={1: TWO_VERSIONS[1]},
        weights={1: 100},
    ),
    "without_clients": DeploymentRoutes(id="churn", generation=2, versions={1: ()}, weights={1: 100}),
    "without_weights": DeploymentRoutes(id="churn", generation=3, access="public", versions=TWO_VERSIONS),
}


def as_json(bundle: Bundle) -> Any:
    resources = {}
    for (type_url, name), resource in bundle.resources.items():
        message = MESSAGES[type_url].FromString(resource.body)
        resources[f"{type_url.rpartition('.')[2]} {name}"] = MessageToDict(message, preserving_proto_field_name=True)
    return resources


def compare(name: str, bundle: Bundle) -> None:
    path = GOLDEN / f"{name}.json"
    found = as_json(bundle)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_deployments(name: str) -> None:
    compare(name, translate(CASES[name]))


def test_the_platforms_own_routes() -> None:
    compare("platform", platform_scopes())


def test_equal_routes_give_equal_bytes_in_any_order() -> None:
    """A version is the hash of the bytes: were they to differ, every restart would send everything again."""
    one = translate(CASES["private"])
    again = DeploymentRoutes(
        id="churn",
        generation=8,
        clients=CLIENTS[::-1],
        versions=dict(sorted(TWO_VERSIONS.items())),
        weights={2: 10, 1: 90},
    )
    assert translate(again) == one


def test_what_differs_has_another_version_and_nothing_else() -> None:
    one, other = translate(CASES["private"]), translate(CASES["public"])
    differing = {key for key in one.resources if one.resources[key].version != other.resources[key].version}
    assert differing == {(SCOPE, "churn"), (SCOPE, "churn/predict")}
    assert one.version != other.version


def test_no_token_is_anywhere() -> None:
    assert b"secret" not in translate(CASES["private"]).to_bytes()


def test_a_bundle_survives_the_disk() -> None:
    bundle = translate(CASES["private"])
    assert Bundle.from_bytes(bundle.to_bytes()) == bundle
