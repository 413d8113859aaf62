"""Who is calling: nobody forges it, no token goes further than Envoy, and what is not known is refused."""

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.gateway.envoy.model import EndpointClient
from services.gateway.envoy.publisher import Enforced
from tests.gateway.envoy.harness import BEARER, TOKEN, ControlPlane, Envoy, Stub, basic, call, raw, routes, stubs

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "moor_ana_" + "y" * 43  # the token of `ana` of another deployment
CI = "moor_ci.prod-1_" + "_-" * 20  # a name of every character, a token with underscores


class World:
    def __init__(self, envoy: Envoy, plane: ControlPlane, stub: Stub) -> None:
        self.envoy, self.plane, self.stub = envoy, plane, stub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("identity")
    async with stubs("one") as (one,), ControlPlane(folder / "snapshot.db") as plane:
        clients = (EndpointClient.of_token("ana", TOKEN), EndpointClient.of_token("ci.prod-1", CI))
        await plane.start(
            routes({1: one}, {1: 100}, clients=clients),
            routes({1: one}, {1: 100}, deployment="open", access="public"),
            routes({1: one}, {1: 100}, deployment="other", clients=(EndpointClient.of_token("ana", OTHER),)),
            routes({1: one}, {1: 100}, deployment="closed", clients=()),
        )
        with Envoy(folder, xds=plane.port) as envoy:
            yield World(await envoy.ready(), plane, one)


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        (basic("ana", TOKEN), "ana"),
        (BEARER, "ana"),
        ({"authorization": f"bearer {TOKEN}"}, "ana"),
        ({"authorization": f"BEARER   {TOKEN}"}, "ana"),
        (basic("ci.prod-1", CI), "ci.prod-1"),
        ({"authorization": f"Bearer {CI}"}, "ci.prod-1"),
    ],
)
async def test_the_model_learns_who_calls_and_not_the_token(world: World, headers: dict[str, str], user: str) -> None:
    for path in ("/deployment/churn/predict", "/deployment/churn/versions/1/x", "/predict/churn/1"):
        answer = await call(world.envoy, path, headers=headers)
        assert answer.status == 200
        assert [value for key, value in answer.model_saw if key == "x-forwarded-user"] == [user]
        told = str(answer.model_saw)
        assert "authorization" not in told
        assert TOKEN not in told
        assert "x-moorage-scope" not in told


FORGED = [
    "x-forwarded-user: root",
    "X-Forwarded-User: root",
    "X-FORWARDED-USER: root",
    "x_forwarded_user: root",
    "X-Forwarded_User: root",
    "x-forwarded-user: root\nx-forwarded-user: root",
    "x-forwarded-user: root\nX_Forwarded-User: root",
    "connection: x-forwarded-user\nx-forwarded-user: root",
    "connection: x-moorage-scope\nx-moorage-scope: /deployment/open/",
    "x-moorage-scope: /deployment/other/\nx-forwarded-user: root",
    "x-forwarded-user:root",
    "x-forwarded-user:\t root ",
    "x-envoy-original-path: /deployment/open/x\nx-forwarded-user: root",
    "x-original-url: /deployment/open/x\nx-forwarded-user: root",
    "trailer: x-forwarded-user\nx-forwarded-user: root",
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize(
    ("path", "authorization", "user"),
    [
        ("/deployment/churn/x", f"authorization: {BEARER['authorization']}", "ana"),
        ("/predict/churn/1", f"authorization: {basic('ana', TOKEN)['authorization']}", "ana"),
        ("/deployment/open/x", "x-none: 1", None),
    ],
)
async def test_nobody_brings_a_name_of_their_own(
    world: World, forged: str, path: str, authorization: str, user: str | None
) -> None:
    # A header named by `connection` is the connection's own: that, too, must not spare one of ours.
    lines = forged.replace("connection: ", "connection: close, ")
    if lines == forged:
        lines += "\nconnection: close"
    answer = await raw(world.envoy, f"GET {path} HTTP/1.1\nhost: x\n{lines}\n{authorization}\n")
    assert answer.startswith("HTTP/1.1 200 "), answer
    assert "root" not in answer
    assert answer.count('["x-forwarded-user", ') == (1 if user else 0)
    if user:
        assert f'["x-forwarded-user", "{user}"]' in answer


async def test_a_trailer_makes_no_name(world: World) -> None:
    answer = await raw(
        world.envoy,
        f"POST /deployment/churn/x HTTP/1.1\nhost: x\nconnection: close\nauthorization: Bearer {TOKEN}\n"
        "content-length: 0\n",
    )
    assert answer.startswith("HTTP/1.1 200 ")
    answer = await raw(
        world.envoy,
        "POST /deployment/open/x HTTP/1.1\nhost: x\nconnection: close\ntransfer-encoding: chunked\n",
        body="0\r\nx-forwarded-user: root\r\n\r\n",
    )
    assert "root" not in answer


REFUSED = {
    "nothing": [],
    "empty": [""],
    "a scheme alone": ["Bearer"],
    "a scheme and a space": ["Bearer "],
    "another scheme": [f"Digest {TOKEN}"],
    "no scheme": [TOKEN],
    "another client's name": [basic("ci.prod-1", TOKEN)["authorization"]],
    "an unknown client": [basic("eve", TOKEN)["authorization"]],
    "no name": [basic("", TOKEN)["authorization"]],
    "no password": [basic("ana", "")["authorization"]],
    "the hash itself": [basic("ana", EndpointClient.of_token("ana", TOKEN).sha1)["authorization"]],
    "the hash as bearer": [f"Bearer {EndpointClient.of_token('ana', TOKEN).sha1}"],
    "the placeholder": [basic("nobody", "")["authorization"]],
    "a token cut short": [f"Bearer {TOKEN[:-1]}"],
    "a token and more": [f"Bearer {TOKEN}x"],
    "two tokens": [f"Bearer {TOKEN} {TOKEN}"],
    "the token of another deployment": [f"Bearer {OTHER}"],
    "the same as basic": [basic("ana", OTHER)["authorization"]],
    "another name in the token": [f"Bearer {TOKEN.replace('ana', 'ci.prod-1')}"],
    "no base64": ["Basic !!!!"],
    "base64 without a colon": ["Basic " + base64.b64encode(TOKEN.encode()).decode()],
    "basic in lower case": [basic("ana", TOKEN)["authorization"].replace("Basic", "basic")],
    "a pattern": ["Bearer moor_%w+_%S+"],
    "null bytes in base64": [basic("ana\0", TOKEN)["authorization"]],
    "two headers": [f"Bearer {OTHER}", f"Bearer {TOKEN}"],
    "very long": ["Bearer moor_" + "a" * 20_000],
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_token_is_refused(world: World, case: str) -> None:
    served = world.stub.requests
    lines = "".join(f"authorization: {value}\n" for value in REFUSED[case])
    for path in ("/deployment/churn/x", "/deployment/churn", "/deployment/churn/versions/1/x", "/predict/churn/1"):
        answer = await raw(world.envoy, f"GET {path} HTTP/1.1\nhost: x\nconnection: close\n{lines}")
        assert answer.startswith("HTTP/1.1 401 "), answer
        assert '"code":"invalid_token"' in answer
    assert world.stub.requests == served


@pytest.mark.parametrize(
    "line",
    [
        "GET /deployment/open/../churn/x HTTP/1.1",
        "GET /deployment/open/%2e%2e/churn/x HTTP/1.1",
        "GET /deployment/open/..//churn/x HTTP/1.1",
        "GET //deployment/churn/x HTTP/1.1",
        "GET /deployment//churn/x HTTP/1.1",
        "GET /./deployment/./churn/x HTTP/1.1",
        "GET http://open/deployment/churn/x HTTP/1.1",
        "GET http://x/deployment/open/../churn/x HTTP/1.1",
        "GET /deployment/churn/x?/deployment/open/ HTTP/1.1",
        "GET /deployment/churn?/deployment/open/ HTTP/1.1",
        "GET /%64eployment/churn/x HTTP/1.1",
        "GET /deployment/churn;/x HTTP/1.1",
        "GET /deployment/CHURN/x HTTP/1.1",
        "GET /deployment/churn%00/x HTTP/1.1",
        "GET /deployment/open%2f..%2fchurn/x HTTP/1.1",
        "GET /deployment/open%5c..%5cchurn/x HTTP/1.1",
        "GET /deployment/open\\..\\churn/x HTTP/1.1",
        "GET /api/v1/../../deployment/churn/x HTTP/1.1",
        "GET /docs/../deployment/churn/x HTTP/1.1",
        "GET /deployment/closed/x HTTP/1.1",
    ],
)
async def test_no_way_of_writing_a_path_passes_by_the_token(world: World, line: str) -> None:
    served = world.stub.requests
    for forged in ("", "x-moorage-scope: /deployment/open/\n"):
        answer = await raw(world.envoy, f"{line}\nhost: x\nconnection: close\n{forged}")
        assert answer[9:12] in ("401", "400", "404"), answer
    assert world.stub.requests == served


async def test_a_revoked_client_is_refused_from_the_acknowledgement_on(world: World) -> None:
    headers = {"authorization": "Bearer moor_eve_" + "z" * 43}
    eve = EndpointClient.of_token("eve", "moor_eve_" + "z" * 43)
    with_eve = routes({1: world.stub}, {1: 100}, deployment="revoke", generation=1, clients=(eve,))
    without = routes({1: world.stub}, {1: 100}, deployment="revoke", generation=2, clients=())
    for _ in range(20):
        assert await world.plane.publish(with_eve) == Enforced(with_eve)
        assert (await call(world.envoy, "/deployment/revoke/x", headers=headers)).status == 200
        assert await world.plane.publish(without) == Enforced(without)
        assert (await call(world.envoy, "/deployment/revoke/x", headers=headers)).status == 401


async def test_only_hashes_are_in_envoy_and_on_disk(world: World) -> None:
    assert TOKEN not in await world.envoy.config_dump()
    assert TOKEN.encode() not in b"".join(
        file.read_bytes() for file in world.envoy.log.parent.iterdir() if file.is_file()
    )
