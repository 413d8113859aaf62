"""Whatever is sent, never a 5xx and always what the OpenAPI document says (schemathesis)."""

import asyncio
from itertools import count
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from tests.deployer.conftest import Deployer

EXAMPLES = 5
REAL = {"model": "risk/churn/2", "runtime": "inference", "instance_type": "cpu-1", "group": "risk"}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


async def test_the_openapi_document_is_kept(deployer: Deployer, server: httpx.AsyncClient) -> None:
    await deployer.deploy()
    document = (await deployer.client.get("/openapi.json")).json()
    url, headers = str(server.base_url).removesuffix("/api/v1/"), deployer.ana
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names) == 24
    assert {"create_deployment", "get_replica", "get_replica_log", "roll_back_deployment"} <= set(names)
    schema = schemathesis.openapi.from_dict(document)
    for operation in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            await deployer.call("POST", "/deployments", {"id": "churn", "model": "risk/churn/1"})  # one may be gone
            cases = operation.ok().as_strategy(generation_mode=mode)
            await asyncio.to_thread(check, cases, url=url, headers=headers)
    assert (await deployer.client.get("/readyz")).status_code == 200


def check(cases: st.SearchStrategy[Any], *, url: str, headers: dict[str, str]) -> None:
    number = count()

    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: Any) -> None:
        if next(number) % 2:
            make_plausible(case)
        keep_short(case)
        case.validate_response(case.call(base_url=url, headers=headers, timeout=30), checks=CHECKS)

    send()


def make_plausible(case: Any) -> None:
    """What generated text would never hit: names of things that are there."""
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = "churn"
    if isinstance(case.body, dict):
        for body in (case.body, *(v for v in case.body.get("versions") or () if isinstance(v, dict))):
            body.update({name: value for name, value in REAL.items() if name in body})


def keep_short(case: Any) -> None:
    """Some would wait, as they should."""
    if case.query and "wait" in case.query:
        case.query["timeout"] = 0
    if case.query and "follow" in case.query:
        case.query["follow"] = False
