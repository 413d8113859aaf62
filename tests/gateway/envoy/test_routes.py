"""Addresses, weights, access and the platform's routes, through a real Envoy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.gateway.envoy.model import DeploymentRoutes
from tests.gateway.envoy.harness import (
    BEARER,
    TOKEN,
    ControlPlane,
    Envoy,
    Load,
    Stub,
    basic,
    call,
    hang_up,
    raw,
    routes,
    stubs,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Envoy]:
    """In front of `churn` (private, all to version 1), `open` (public), `split` (70/30) and some that cannot answer."""
    folder = tmp_path_factory.mktemp("routes")
    async with stubs("one", "two", "api") as (one, two, api), ControlPlane(folder / "snapshot.db") as plane:
        both = {1: one, 2: two}
        await plane.start(
            routes(both, {1: 100}),
            routes(both, {1: 100}, deployment="open", access="public"),
            routes(both, {1: 70, 2: 30}, deployment="split"),
            routes(both, {1: 100}, deployment="stopped", stopped=True),
            routes(both, {}, deployment="idle"),
            routes({1: []}, {1: 100}, deployment="empty"),
            DeploymentRoutes(id="nobody", generation=1, versions={}, weights={}),
            routes({1: Stub("gone")}, {1: 100}, deployment="dead"),
        )
        with Envoy(folder, xds=plane.port, services=api.port) as started:
            yield await started.ready()


@pytest.mark.parametrize(
    ("path", "model", "saw"),
    [
        ("/deployment/churn/predict?a=1", "one", "GET /predict?a=1 HTTP/1.1"),
        ("/deployment/churn/", "one", "GET / HTTP/1.1"),
        ("/deployment/churn", "one", "GET / HTTP/1.1"),
        ("/deployment/churn?a=/b", "one", "GET /?a=/b HTTP/1.1"),
        ("/deployment/churn/v1/models/m:predict", "one", "GET /v1/models/m:predict HTTP/1.1"),
        ("/deployment/churn/versions/1/predict", "one", "GET /predict HTTP/1.1"),
        ("/deployment/churn/versions/2/predict", "two", "GET /predict HTTP/1.1"),
        ("/predict/churn", "one", "GET /predict/churn HTTP/1.1"),
        ("/predict/churn/2", "two", "GET /predict/churn/2 HTTP/1.1"),
        ("/predict/churn/2/more?q", "two", "GET /predict/churn/2/more?q HTTP/1.1"),
        ("/deployment//churn//x", "one", "GET /x HTTP/1.1"),
        ("/elsewhere/../deployment/churn/a/../x", "one", "GET /x HTTP/1.1"),
    ],
)
async def test_addresses(envoy: Envoy, path: str, model: str, saw: str) -> None:
    answer = await call(envoy, path, headers=BEARER)
    assert answer.status == 200
    assert (answer.body["name"], answer.body["request"]) == (model, saw)


@pytest.mark.parametrize(
    "path",
    [
        "/deployment/churn/versions",
        "/deployment/churn/versions/3/predict",
        "/deployment/churn/versions/10/predict",
        "/predict/churn/3",
        "/predict/churn/20",
        "/predict/churn/1x",
        "/nothing",
        "/",
        "/api",
        "/api/v2/deployments",
        "/api/v1/nothing",
        "/api/v1",
        "/api/v1/deploymentsx",
        "/.well-known/nothing",
    ],
)
async def test_what_is_not_there(envoy: Envoy, path: str) -> None:
    answer = await call(envoy, path, headers=BEARER)
    assert (answer.status, answer.body["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/deployment/stopped/predict", 503, "deployment_stopped"),
        ("/predict/stopped/1", 503, "deployment_stopped"),
        ("/deployment/idle/predict", 503, "no_traffic"),
        ("/deployment/idle/versions/1/predict", 200, None),
        ("/deployment/empty/predict", 503, "no_ready_replica"),
        ("/deployment/nobody/predict", 401, "invalid_token"),
        ("/deployment/unknown/predict", 401, "invalid_token"),
        ("/deployment/%63hurn%2fpredict", 400, "bad_request"),
        ("/deployment/dead/predict", 503, "replica_unreachable"),
    ],
)
async def test_every_failure_is_a_problem(envoy: Envoy, path: str, status: int, code: str | None) -> None:
    answer = await call(envoy, path, headers=BEARER)
    assert answer.status == status
    if code is None:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.body["status"], answer.body["code"]) == (status, code)
    assert answer.body["type"] == f"/docs/errors#{code}"
    assert answer.body["title"]
    assert answer.body["detail"]
    assert answer.body["request_id"] == answer.headers.get("x-request-id")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /deployment/churn/x HTTP/1.1\nconnection: close\n", 400),  # no host
        ("OPTIONS * HTTP/1.1\nhost: x\nconnection: close\n", 404),
        (f"GET / HTTP/1.1\nhost: x\nconnection: close\nlong: {'x' * 70_000}\n", 431),
        ("GET /deployment/open/ HTTP/1.1\nhost: x\nconnection: upgrade\nupgrade: unheard-of\n", 403),
        ("GET /deployment/churn/%zz HTTP/1.1\nhost: x\nconnection: close\n", 401),
        ("POST / HTTP/1.1\nhost: x\nconnection: close\ncontent-length: 1\ntransfer-encoding: chunked\n", 400),
        ("BROKEN\n", 400),
    ],
)
async def test_what_is_hardly_http_is_answered_with_a_problem(envoy: Envoy, request_text: str, status: int) -> None:
    answer = await raw(envoy, request_text)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "content-type: application/problem+json" in answer
    assert f'"status":{status}' in answer


async def test_a_challenge_names_both_schemes(envoy: Envoy) -> None:
    answer = await call(envoy, "/deployment/churn/predict")
    assert answer.status == 401
    assert answer.headers.get_list("www-authenticate") == [
        'Basic realm="moorage", charset="UTF-8"',
        'Bearer realm="moorage"',
    ]


async def test_a_stopped_deployment_tells_so_only_those_who_may_call(envoy: Envoy) -> None:
    assert (await call(envoy, "/deployment/stopped/predict")).status == 401


async def test_a_public_one_asks_nobody(envoy: Envoy) -> None:
    for headers in ({}, BEARER, basic("nobody", "wrong"), {"authorization": "nonsense"}):
        answer = await call(envoy, "/deployment/open/predict", headers=headers)
        assert answer.status == 200
        assert "authorization" not in dict(answer.model_saw)


async def test_bodies_and_methods_pass(envoy: Envoy) -> None:
    answer = await call(envoy, "/deployment/churn/predict", method="POST", headers=BEARER, content=b"1 2:3")
    assert (answer.body["request"], answer.body["body"]) == ("POST /predict HTTP/1.1", "1 2:3")


async def test_weights_split_and_nobody_is_missed(envoy: Envoy) -> None:
    async with Load(envoy, "/deployment/split/x", callers=8) as load:
        await load.more(3_000)
    load.assert_none_failed()
    assert 0.65 < load.names["one"] / load.total < 0.75
    assert load.names["one"] + load.names["two"] == load.total


async def test_a_websocket_passes_with_its_token(envoy: Envoy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port)
    writer.write(
        f"GET /deployment/churn/ws HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        "connection: Upgrade\r\nupgrade: websocket\r\n\r\nhello".encode()
    )
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert await reader.readexactly(5) == b"olleh"
    await hang_up(writer)


async def test_a_request_keeps_its_id_and_every_answer_has_one(envoy: Envoy) -> None:
    answer = await call(envoy, "/deployment/churn/x", headers={**BEARER, "x-request-id": "mine"})
    assert answer.headers["x-request-id"] == dict(answer.model_saw)["x-request-id"] == "mine"
    answer = await call(envoy, "/deployment/churn/x", headers=BEARER)
    assert len(answer.headers["x-request-id"]) == 36


async def test_the_keys_are_where_everybody_looks_for_them(envoy: Envoy) -> None:
    answer = await call(envoy, "/.well-known/jwks.json?x")
    assert answer.body["request"] == "GET /api/v1/.well-known/jwks.json?x HTTP/1.1"


SERVICES = {
    "gateway": [
        "/api/v1/auth/token",
        "/api/v1/me",
        "/api/v1/users/ana",
        "/api/v1/access-tokens",
        "/api/v1/service-accounts",
        "/api/v1/audit?user=ana",
        "/api/v1/.well-known/jwks.json",
        "/openapi.json",
        "/openapi.json?v=1",
        "/docs",
        "/docs/",
        "/docs/errors",
        "/api/v1/deployments/churn/clients",
        "/api/v1/deployments/churn/clients/ana/rotate",
        "/api/v1/deployments/churn/endpoint",
    ],
    "registry": ["/api/v1/groups/g/members/m", "/api/v1/instance-types", "/api/v1/models/g/m", "/api/v1/artifacts"],
    "metrics": [
        "/api/v1/metrics",
        "/api/v1/usage",
        "/api/v1/deployments/churn/metrics?by=client",
        "/api/v1/deployments/churn/feedback",
    ],
    "deployer": [
        "/api/v1/deployments",
        "/api/v1/deployments?q=clients",
        "/api/v1/deployments/clients",
        "/api/v1/deployments/churn/replicas/clients/log",
        "/api/v1/deployments/churn/versions/1",
        "/api/v1/runtimes",
    ],
}


async def test_the_api_is_one_tree_over_four_services(envoy: Envoy) -> None:
    before = await calls_of_services(envoy)  # other tests share this Envoy
    for paths in SERVICES.values():
        for path in paths:
            answer = await call(envoy, path, headers={"authorization": "Bearer of-the-api", "x-forwarded-user": "root"})
            assert answer.status == 200, path
            saw = dict(answer.model_saw)
            assert saw["authorization"] == "Bearer of-the-api"
            assert "x-forwarded-user" not in saw
    # The stub is all four: which one was meant is in the counts.
    calls = await calls_of_services(envoy) - before
    assert calls == {service: len(paths) for service, paths in SERVICES.items()}


async def calls_of_services(envoy: Envoy) -> Counter[str]:
    calls: Counter[str] = Counter()
    for stat in await envoy.stats():
        for service in SERVICES:
            if stat.get("name", "").startswith(f"moorage.requests.deployment.@{service}."):
                calls[service] += stat["value"]
    return calls
