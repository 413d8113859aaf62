"""Clients of private endpoints, with the real Envoy: who is let in, and from when on no more."""

import asyncio
import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert, select, update

from services.gateway.envoy.publisher import Pending
from shared.schema import EndpointClient, request_samples
from tests.gateway.envoy.harness import Envoy, Stub, basic, call, until
from tests.gateway.world import Gateway

CLIENTS = "/api/v1/deployments/churn/clients"


async def test_let_in_and_out_again(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        assert (await call(envoy, "/deployment/churn/x")).status == 401

        client = await gateway.client("churn", "batch", ana)
        assert client["enforced"] is True
        token = client["token"]
        assert token.startswith("moor_batch_")
        for headers in (basic("batch", token), {"authorization": f"Bearer {token}"}):
            answer = await call(envoy, "/deployment/churn/x", headers=headers)
            assert answer.status == 200
            assert ("x-forwarded-user", "batch") in answer.model_saw
            assert token not in str(answer.body)

        revoked = await gateway.http.delete(f"{CLIENTS}/batch", headers=ana)
        assert revoked.json() == {"name": "batch", "enforced": True, "reason": None}
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", token))).status == 401


async def test_a_thousand_rounds_and_never_a_stale_answer(gateway: Gateway, envoy: Envoy) -> None:
    """Once the API has answered, the very next request meets the new state: the old token is out, the new one in."""
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    stale: list[str] = []

    async def rounds(deployment: str, http: httpx.AsyncClient) -> None:
        url = f"/api/v1/deployments/{deployment}/clients/batch/rotate"
        old = (await gateway.client(deployment, "batch", ana))["token"]
        for number in range(125):
            rotated = (await gateway.http.post(url, headers=ana)).json()
            tokens = (old, rotated["token"])
            calls = [await http.get(f"/deployment/{deployment}/x", auth=("batch", token)) for token in tokens]
            statuses = [each.status_code for each in calls]
            if (rotated["enforced"], statuses) != (True, [401, 200]):
                stale.append(f"{deployment}, round {number}: {rotated['reason']}, {statuses}")
            old = rotated["token"]

    async with Stub("one") as model, httpx.AsyncClient(base_url=envoy.url) as http:
        deployments = [f"churn-{number}" for number in range(8)]
        for deployment in deployments:
            await gateway.deployer.settled(await gateway.deployer.deploy(deployment, {1: model}))
        await asyncio.gather(*(rounds(deployment, http) for deployment in deployments))
    assert stale == []


async def test_two_at_once_lose_none(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        clients = await asyncio.gather(*(gateway.client("churn", f"client-{n}", ana) for n in range(20)))
        for client in clients:
            answer = await call(envoy, "/predict/churn/1", headers=basic(client["name"], client["token"]))
            assert answer.status == 200
        same = [gateway.http.post(CLIENTS, json={"name": "same"}, headers=ana) for _ in range(5)]
        answers = await asyncio.gather(*same)
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
        assert {answer.json().get("code") for answer in answers} == {None, "name_taken"}


async def test_last_used_is_the_newest_sample_of_its_own(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    uid = await gateway.deployer.deploy("churn", {})
    for name in ("batch", "web", "idle"):
        await gateway.http.post(CLIENTS, params={"wait": "none"}, json={"name": name}, headers=ana)
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    samples = [
        ("batch", now, 5),
        ("batch", now + timedelta(minutes=1), 5),
        ("web", now, 60),
        ("", now + timedelta(minutes=9), 5),  # refused, or public
        ("idle", now - timedelta(hours=1), 3600),  # of another one, of the same name
        ("idle", datetime.fromtimestamp(0, UTC), 0),  # in all
    ]
    async with gateway.deployer.sessions.begin() as session:
        for client, at, resolution in samples:
            values = {"uid": uid, "at": at, "count": 1, "version": 1, "resolution": resolution, "code": 200}
            await session.execute(insert(request_samples).values(client=client, **values))
    items = (await gateway.http.get(CLIENTS, headers=ana)).json()["items"]
    used = {item["name"]: item["last_used_at"] and datetime.fromisoformat(item["last_used_at"]) for item in items}
    assert used == {"batch": now + timedelta(minutes=1), "web": now, "idle": None}
    assert (await gateway.http.get(f"{CLIENTS}/web", headers=ana)).json() == items[2]


async def test_public_and_private_again_revives_nobody(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        uid = await gateway.deployer.deploy("churn", {1: model})
        stays, goes, goes_meanwhile = [
            (await gateway.client("churn", name, ana))["token"] for name in ("stays", "goes", "goes-meanwhile")
        ]
        await gateway.http.delete(f"{CLIENTS}/goes", headers=ana)
        await gateway.deployer.change("churn", access="public")
        await gateway.deployer.settled(uid)
        assert (await call(envoy, "/deployment/churn/x")).status == 200
        await gateway.http.delete(f"{CLIENTS}/goes-meanwhile", headers=ana)
        await gateway.deployer.change("churn", access="private")
        await gateway.deployer.settled(uid)
        for name, token, status in (
            ("stays", stays, 200),
            ("goes", goes, 401),
            ("goes-meanwhile", goes_meanwhile, 401),
        ):
            assert (await call(envoy, "/deployment/churn/x", headers=basic(name, token))).status == status
        assert (await call(envoy, "/deployment/churn/x")).status == 401


@pytest.mark.parametrize("access", ["private", "public"])
async def test_nobody_brings_a_name_of_their_own(gateway: Gateway, envoy: Envoy, access: str) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        uid = await gateway.deployer.deploy("churn", {1: model}, access=access)
        client = await gateway.client("churn", "batch", ana)
        await gateway.deployer.settled(uid)
        forged = [("X-Forwarded-User", "root"), ("x_forwarded_user", "root"), ("Connection", "x-forwarded-user")]
        headers = [*forged, *basic("batch", client["token"]).items()]
        seen = (await call(envoy, "/deployment/churn/x", headers=headers)).model_saw
        assert "root" not in str(seen)
        assert [value for name, value in seen if name == "x-forwarded-user"] == (
            ["batch"] if access == "private" else []
        )
        assert client["token"] not in str(seen)


async def test_an_expired_client_is_refused_by_itself(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        expires = datetime.now(UTC) + timedelta(seconds=1)
        client = await gateway.client("churn", "batch", ana, expires_at=expires.isoformat())
        longer = await gateway.client("churn", "longer", ana)
        headers = basic("batch", client["token"])
        assert (await call(envoy, "/deployment/churn/x", headers=headers)).status == 200

        async def refused() -> bool:
            status = (await call(envoy, "/deployment/churn/x", headers=headers)).status
            assert status == 200 or datetime.now(UTC) >= expires
            return status == 401

        await until(refused, within=3)
        assert datetime.now(UTC) - expires < timedelta(seconds=1)
        assert (await call(envoy, "/deployment/churn/x", headers=basic("longer", longer["token"]))).status == 200

        answer = await gateway.http.post(f"{CLIENTS}/batch/rotate", headers=ana)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/expires_at")
        answer = await gateway.http.post(f"{CLIENTS}/batch/rotate", json={"expires_at": None}, headers=ana)
        fresh = basic("batch", answer.json()["token"])
        assert (await call(envoy, "/deployment/churn/x", headers=fresh)).status == 200


async def test_rotation_ends_the_old_token(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        old = await gateway.client("churn", "batch", ana, expires_at="2099-01-01T00:00:00+02:00")
        answer = await gateway.http.post(f"{CLIENTS}/batch/rotate", headers=ana)
        assert answer.headers["etag"] == '"2"'
        new = answer.json()
        assert (new["enforced"], new["expires_at"]) == (True, "2098-12-31T22:00:00.000Z")
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", old["token"]))).status == 401
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", new["token"]))).status == 200
        stale = await gateway.http.post(f"{CLIENTS}/batch/rotate", headers=ana | {"If-Match": '"1"'})
        assert stale.status_code == 412


async def test_only_a_hash_is_kept(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})
    answer = await gateway.http.post(f"{CLIENTS}?wait=none", json={"name": "batch"}, headers=ana)
    token = answer.json()["token"]
    random = token.removeprefix("moor_batch_")
    assert len(base64.urlsafe_b64decode(random + "=")) == 32
    async with gateway.deployer.sessions() as session:
        row = (await session.execute(select(EndpointClient))).scalar_one()
    assert row.sha1 == base64.b64encode(hashlib.sha1(token.encode()).digest()).decode()
    shown = await gateway.http.get(f"{CLIENTS}/batch", headers=ana)
    assert "token" not in shown.json()
    assert row.sha1 not in shown.text


async def test_without_envoy_the_answer_says_so(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})
    answer = await gateway.http.post(f"{CLIENTS}?timeout=0.1", json={"name": "batch"}, headers=ana)
    assert answer.status_code == 201
    assert answer.json()["enforced"] is False
    assert "No Envoy is connected" in answer.json()["reason"]
    assert answer.headers["location"] == f"{CLIENTS}/batch"
    answer = await gateway.http.delete(f"{CLIENTS}/batch?wait=none", headers=ana)
    assert answer.json() == {"name": "batch", "enforced": None, "reason": None}


async def test_an_answer_that_waits_for_envoy_gets_it_once_envoy_is_there(gateway: Gateway, tmp_path: Path) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        uid = await gateway.deployer.deploy("churn", {1: model})
        waiting = asyncio.create_task(gateway.http.post(f"{CLIENTS}?timeout=20", json={"name": "a"}, headers=ana))
        await until(lambda: "churn" in gateway.parts.reconciler._waiters, what="the answer waits")
        with Envoy(tmp_path, xds=gateway.settings.xds_port):
            assert (await waiting).json()["enforced"] is True
            await gateway.deployer.settled(uid)


async def test_a_dry_run_lets_nobody_in(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})
    answer = await gateway.http.post(f"{CLIENTS}?dry_run=true", json={"name": "batch"}, headers=ana)
    assert (answer.status_code, answer.json()["token"], answer.json()["enforced"]) == (201, None, None)
    assert (await gateway.http.get(CLIENTS, headers=ana)).json()["items"] == []


async def test_lists_have_pages(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})
    for name in "cab":
        await gateway.http.post(f"{CLIENTS}?wait=none", json={"name": name}, headers=ana)
    first = (await gateway.http.get(f"{CLIENTS}?limit=2&count=true", headers=ana)).json()
    assert ([item["name"] for item in first["items"]], first["total"]) == (["a", "b"], 3)
    second = (await gateway.http.get(CLIENTS, params={"cursor": first["next"]}, headers=ana)).json()
    assert ([item["name"] for item in second["items"]], second["next"]) == (["c"], None)


async def test_what_could_do_harm_or_makes_no_sense_is_refused(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})
    names = ["", ".", "..", "a_b", "a b", "ana:x", "ana\nroot", "ana\n", "x" * 64, "é", "a\x00", None, 7]
    times = ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2030-01-01T00:00:00", 7]
    wrong: list[tuple[dict[str, object], str]] = [({"name": name}, "/name") for name in names]
    wrong += [({"name": "batch", "expires_at": at}, "/expires_at") for at in times]
    for body, pointer in wrong:
        answer = await gateway.http.post(CLIENTS, json=body, headers=ana)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), body
    assert (await gateway.http.get(CLIENTS, headers=ana)).json()["items"] == []


@pytest.mark.parametrize("name", ["a", "ab", "ci.prod-7"])  # base64 cuts them in three ways
async def test_rotation_with_an_overlap_lets_both_tokens_in_by_one_name(
    gateway: Gateway, envoy: Envoy, name: str
) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])

    async def let_in(token: str, *, user: str = name) -> list[int]:
        answers = [
            await call(envoy, "/deployment/churn/x", headers=headers)
            for headers in (basic(user, token), {"authorization": f"bEARER {token}"})
        ]
        for answer in answers:
            assert answer.status == 401 or ("x-forwarded-user", user) in answer.model_saw
        return [answer.status for answer in answers]

    async def rotate(**body: int) -> dict[str, str]:
        answer = await gateway.http.post(f"{CLIENTS}/{name}/rotate", json=body, headers=ana)
        document: dict[str, str] = answer.json()
        assert document["enforced"] is True, answer.text
        return document

    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        other = (await gateway.client("churn", "other", ana))["token"]
        tokens = [(await gateway.client("churn", name, ana))["token"]]
        for expected in ([200, 200], [401, 200, 200]):  # the next rotation ends the one before the last
            rotated = await rotate(overlap=60)
            assert rotated["previous_until"] is not None
            tokens.append(rotated["token"])
            assert [await let_in(token) for token in tokens] == [[status] * 2 for status in expected]
        assert await let_in(other, user="other") == [200, 200]
        assert await let_in(tokens[-1][:-4] + "AAAA") == [401, 401]

        tokens.append((await rotate(overlap=1))["token"])
        assert await let_in(tokens[-1]) == [200, 200]

        async def over() -> bool:
            return await let_in(tokens[-2]) == [401, 401]

        await until(over)
        assert await let_in(tokens[-1]) == [200, 200]
        page = (await gateway.http.get(f"{CLIENTS}/{name}", headers=ana)).json()
        assert page["previous_until"] is None

        tokens.append((await rotate())["token"])
        assert [await let_in(token) for token in tokens[-2:]] == [[401, 401], [200, 200]]
        tokens.append((await rotate(overlap=60))["token"])
        await gateway.http.delete(f"{CLIENTS}/{name}", headers=ana)
        assert [await let_in(token) for token in tokens[-2:]] == [[401, 401]] * 2


async def test_an_overlap_revives_nothing_and_there_are_so_many(gateway: Gateway) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    await gateway.deployer.deploy("churn", {})

    async def post(path: str, **body: object) -> httpx.Response:
        return await gateway.http.post(f"{CLIENTS}{path}", params={"wait": "none"}, json=body, headers=ana)

    for number in range(11):
        await post("", name=f"batch-{number}")
    for number in range(10):
        assert (await post(f"/batch-{number}/rotate", overlap=60)).status_code == 200
    too_many = await post("/batch-10/rotate", overlap=60)
    assert (too_many.status_code, too_many.json()["code"]) == (409, "limit_reached")
    assert (await post("/batch-0/rotate", overlap=60)).status_code == 200  # it is one of the ten

    past = datetime.now(UTC) - timedelta(seconds=1)
    async with gateway.deployer.sessions.begin() as session:
        await session.execute(update(EndpointClient).where(EndpointClient.name == "batch-0").values(expires_at=past))
    rotated = await post("/batch-0/rotate", overlap=60, expires_at=None)
    assert rotated.json()["previous_until"] is None


async def test_who_has_given_up_waiting_is_forgotten(gateway: Gateway) -> None:
    """With no Envoy connected nothing is decided, and whoever waited must not be kept until it is."""
    await gateway.deployer.deploy("churn", {})
    reconciler = gateway.parts.reconciler
    for within in (0.001, 0.01, 0.1):
        assert isinstance(await reconciler.enforce("churn", within=within), Pending)
    gone = asyncio.create_task(reconciler.enforce("churn", within=60))  # a caller that hangs up
    await until(lambda: reconciler._waiters, what="it waits")
    gone.cancel()
    await until(lambda: not reconciler._waiters, what="nobody is kept")
