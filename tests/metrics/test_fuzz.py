"""Whatever is sent, never a 5xx and always what the OpenAPI says: schemathesis against a metrics process."""

import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.database import Sessions
from tests.metrics.conftest import Deploy, eventually
from tests.support.ports import free_port
from tests.support.services import People

EXAMPLES = 8


async def test_the_openapi_document_is_kept(
    start_metrics: Callable[..., subprocess.Popen[bytes]], sessions: Sessions, deploy: Deploy
) -> None:
    await deploy("churn")
    headers = await People(sessions).add("root", admin=True)
    port = free_port()
    start_metrics(f"http://127.0.0.1:{free_port()}", port=port)
    url = f"http://127.0.0.1:{port}"

    async def is_up() -> None:
        async with httpx.AsyncClient() as http:
            try:
                assert (await http.get(f"{url}/readyz")).status_code == 200
            except httpx.HTTPError as error:
                raise AssertionError from error

    await eventually(is_up, within=20)
    async with httpx.AsyncClient() as http:
        assert "# TYPE moorage_endpoint_requests_total counter" in (await http.get(f"{url}/metrics")).text
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {
        "/api/v1/metrics",
        "/api/v1/metrics/summary",
        "/api/v1/deployments/{id}/metrics",
        "/api/v1/deployments/{id}/metrics/summary",
    }
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            check(operation.as_strategy(generation_mode=mode), url=url, headers=headers)


def check(cases: st.SearchStrategy[Any], *, url: str, headers: dict[str, str]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: Any) -> None:
        response = case.call(base_url=url, headers=headers)
        case.validate_response(
            response,
            checks=[
                schemathesis.checks.not_a_server_error,
                schemathesis.specs.openapi.checks.status_code_conformance,
                schemathesis.specs.openapi.checks.content_type_conformance,
                schemathesis.specs.openapi.checks.response_schema_conformance,
            ],
        )

    send()
