"""A model answers at the platform's own address: what it may not say there, and which of its pages nobody sees."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.envoy.harness import BEARER, ControlPlane, Envoy, Stub, call, raw, routes

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_ITS_OWN = {
    "content-type": "text/html",
    "content-security-policy": "sandbox allow-scripts allow-same-origin",
    "x-frame-options": "DENY",
    "access-control-allow-origin": "*",
    "www-authenticate": "Basic",
}
OF_THE_ADDRESS = {
    "Set-Cookie": "moorage_login_x=y; Path=/api",
    "set-cookie": "__Host-other=z; Secure; Path=/",
    "Alt-Svc": 'h3="evil.test:443"',
    "Strict-Transport-Security": "max-age=0",
    "Clear-Site-Data": '"*"',
    "Service-Worker-Allowed": "/",
    "NEL": '{"report_to": "evil", "max_age": 9}',
    "Report-To": '{"group": "evil", "max_age": 9, "endpoints": []}',
    "Reporting-Endpoints": 'evil="https://evil.test"',
    "Public-Key-Pins": 'pin-sha256="x"; max-age=9',
    "Public-Key-Pins-Report-Only": 'pin-sha256="x"; max-age=9',
    "Expect-CT": "max-age=9, enforce",
    "Accept-CH": "Sec-CH-UA-Model",
    "Origin-Agent-Cluster": "?0",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Envoy]:
    """In front of an evil model, and of the API, which says the same."""
    folder = tmp_path_factory.mktemp("pages")
    lines = [f"{name}: {value}" for name, value in (*OF_ITS_OWN.items(), *OF_THE_ADDRESS.items())]
    async with Stub("evil", headers=lines) as evil, ControlPlane(folder / "snapshot.db") as plane:
        both = {1: evil, 2: evil}
        await plane.start(routes(both, {1: 100}), routes(both, {1: 50, 2: 50}, deployment="open", access="public"))
        with Envoy(folder, xds=plane.port, services=evil.port) as started:
            yield await started.ready()


@pytest.mark.parametrize(
    "path", ["/deployment/open/x", "/deployment/churn/versions/1/x", "/predict/churn", "/predict/open/2"]
)
async def test_a_model_says_nothing_for_the_whole_address(envoy: Envoy, path: str) -> None:
    answer = await call(envoy, path, headers=BEARER)
    assert answer.status == 200
    assert not {name.lower() for name in OF_THE_ADDRESS} & set(answer.headers)
    own = {**OF_ITS_OWN, "content-security-policy": f"{OF_ITS_OWN['content-security-policy']}, sandbox"}
    assert {name: answer.headers[name] for name in own} == own


async def test_what_envoy_answers_there_is_sandboxed_too(envoy: Envoy) -> None:
    for path, status in (("/deployment/churn/x", 401), ("/predict/open/9", 404)):
        answer = await call(envoy, path)
        assert (answer.status, answer.headers["content-security-policy"]) == (status, "sandbox")


async def test_a_model_is_sent_no_cookie(envoy: Envoy) -> None:
    """None of its own can there be: it would be that of a page, or of a proxy, that lets its users in with it."""
    answer = await call(envoy, "/deployment/open/x", headers={"Cookie": "session=of-somebody-else"})
    assert "session" not in str(answer.model_saw)


async def test_the_api_speaks_for_itself(envoy: Envoy) -> None:
    answer = await call(envoy, "/api/v1/me", headers={"Cookie": "moorage_login_x=y"})
    assert answer.headers.get_list("set-cookie") == [OF_THE_ADDRESS["Set-Cookie"], OF_THE_ADDRESS["set-cookie"]]
    assert answer.headers["content-security-policy"] == OF_ITS_OWN["content-security-policy"]
    assert dict(answer.model_saw)["cookie"] == "moorage_login_x=y"


@pytest.mark.parametrize("base", ["/deployment/open", "/deployment/churn", "/deployment/open/versions/2"])
@pytest.mark.parametrize(
    "page",
    ["/metrics", "/metrics/", "/metrics?x=1", "/metrics/sub", "/metrics;x", "/metrics%20", "/metrics%3fx", "/METRICS",
     "//metrics", "/./metrics", "/x/../metrics", "/x/%2e%2e/metrics", "/%6detrics", "/%6D%65tric%73", "\\metrics"],
)  # fmt: skip
async def test_a_replicas_own_metrics_are_shown_to_nobody(envoy: Envoy, base: str, page: str) -> None:
    answer = await raw(
        envoy, f"GET {base}{page} HTTP/1.1\nhost: x\nconnection: close\nauthorization: {BEARER['authorization']}\n"
    )
    assert answer.startswith("HTTP/1.1 404 "), answer
    assert '"code":"not_found"' in answer


async def test_a_stranger_does_not_learn_that_there_are_metrics(envoy: Envoy) -> None:
    for path in ("/deployment/churn/metrics", "/deployment/unknown/metrics"):
        assert (await call(envoy, path)).status == 401


@pytest.mark.parametrize("page", ["/metricsx", "/v1/metrics", "/metric", "/%256detrics"])
async def test_what_only_looks_like_it_is_the_models(envoy: Envoy, page: str) -> None:
    answer = await call(envoy, f"/deployment/open{page}")
    assert (answer.status, answer.body["request"]) == (200, f"GET {page} HTTP/1.1")
