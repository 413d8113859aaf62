"""The endpoint's page: addresses that work as shown."""

import json
import shlex
import subprocess
from typing import Any

from shared.schema import Blob
from tests.gateway.envoy.harness import Envoy, Stub, call
from tests.gateway.world import Gateway


async def test_the_example_works_as_shown(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    body = '{"type": "dense", "feature_num": "2", "data": {"insts": [[1, 2]]}}'
    async with Stub("one") as one, Stub("two") as two:
        metadata = {"example": body, "team": "it's theirs"}
        await gateway.deployer.settled(
            await gateway.deployer.deploy("churn", {1: one, 3: two}, {1: 100, 3: 0}, metadata=metadata)
        )
        token = (await gateway.client("churn", "batch", ana))["token"]
        page = (await gateway.http.get("/api/v1/deployments/churn/endpoint", headers=ana)).json()
        assert page | {"example": ""} == {
            "url": "http://moorage.test/deployment/churn",
            "versions": {"1": "http://moorage.test/predict/churn/1", "3": "http://moorage.test/predict/churn/3"},
            "hosts": [],
            "grpc": None,
            "access": "private",
            "example": "",
            "example_is_generic": False,
            "enforced": True,
            "reason": None,
        }
        words = shlex.split(page["example"].replace("<client>:<token>", f"batch:{token}"))
        auth, data, url = words[words.index("-u") + 1], words[words.index("--data-raw") + 1], words[-1]
        user, _, password = auth.partition(":")
        path = url.removeprefix("http://moorage.test")
        answer = await call(envoy, path, method="POST", content=data, auth=(user, password))
        assert answer.status == 200
        assert answer.body["request"] == "POST /predict HTTP/1.1"
        assert json.loads(answer.body["body"]) == json.loads(body)
        fixed = await call(envoy, page["versions"]["3"].removeprefix("http://moorage.test"), auth=(user, password))
        assert fixed.body["name"] == "two"


async def test_the_example_is_that_of_the_version_with_most_traffic(gateway: Gateway) -> None:
    examples: list[Any] = [{"text": 'it\'s "€5" `id` $(id) \\ !\n@x'}, {"rows": [[1.5, None]]}, None]
    digests = [f"sha256:{number:064x}" for number in range(3)]
    async with gateway.deployer.sessions.begin() as session:
        for digest, example in zip(digests, examples, strict=True):
            session.add(Blob(digest=digest, size=1, example=example, created_by="ana"))
    await gateway.deployer.deploy("churn", {1: [], 2: [], 3: [], 4: []}, access="public")
    versions = [{"number": n, "runtime": "inference", "digest": d} for n, d in enumerate([*digests, None], start=1)]
    rita = await gateway.people.add("rita", groups=[("risk", "read")])
    for main, example in ((1, examples[0]), (2, examples[1]), (3, None), (4, None)):
        weights = {number: 70 if number == main else 10 for number in range(1, 5)}
        await gateway.deployer.change("churn", versions=versions, weights=weights)
        page = (await gateway.http.get("/api/v1/deployments/churn/endpoint", headers=rita)).json()
        assert page["example_is_generic"] is (example is None)
        assert page["example"].endswith(" http://moorage.test/deployment/churn/predict")
        words = _handed_to_curl(page["example"])
        body = json.loads(words[words.index("--data-raw") + 1])
        assert body == example if example else body["type"] == "dense"


async def test_without_versions(gateway: Gateway) -> None:
    await gateway.deployer.deploy("churn", {}, access="public")
    url = "/api/v1/deployments/churn/endpoint"
    reader = await gateway.people.add("rita", groups=[("risk", "read")])
    page = (await gateway.http.get(url, headers=reader)).json()
    assert (page["enforced"], page["versions"], page["access"]) == (False, {}, "public")
    assert page["reason"]
    assert (await gateway.http.get(url.replace("churn", "none"), headers=reader)).status_code == 404


def _handed_to_curl(line: str) -> list[str]:
    """What curl gets of the line from a real shell."""
    script = f"curl() {{ for word; do printf '%s\\0' \"$word\"; done; }}; {line}"
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    return shell.stdout.decode().split("\0")
