"""Whatever is sent, never a 5xx: schemathesis over the replica's OpenAPI, hypothesis on the example's request."""

import json
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st

from .conftest import Replica, Serve

ECHO = """
class InferenceService:
    def __init__(self, model_path): pass
    def process_request(self, request): return request
"""

calm = hypothesis.settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def echo(serve: Serve) -> Replica:
    return serve(ECHO)


@pytest.fixture(scope="module")
def schema(echo: Replica) -> Any:
    return schemathesis.openapi.from_url(str(echo.client.base_url.join("/openapi.json")))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_openapi_document_is_kept(schema: Any, mode: schemathesis.GenerationMode) -> None:
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 6  # all but the document itself
    for operation in operations:

        @calm
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def keeps_its_word(case: Any) -> None:
            case.call_and_validate()

        try:
            keeps_its_word()
        except hypothesis.errors.Unsatisfiable:
            assert mode is schemathesis.GenerationMode.NEGATIVE  # nothing can be wrong about a GET without parameters


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
tokens = st.sampled_from(
    ["0", "1:0.5", "2:", ":3", "30:1e3", "31:1", "1:nan", "2:inf", "-1:2", "1_0:1", "x", "5:1e400"]
)
lines = st.lists(tokens, max_size=6).map(" ".join) | st.text(max_size=30)
numbers = st.lists(st.floats() | st.integers() | st.booleans() | st.text(max_size=3), max_size=31)
requests = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["libsvm", "dense"]) | json_values,
        "feature_num": st.sampled_from(["30", 30]) | json_values,
        "data": st.fixed_dictionaries(
            {"insts": lines | st.lists(lines, max_size=3) | numbers | st.lists(numbers, max_size=3) | json_values}
        )
        | json_values,
    },
)


@hypothesis.settings(calm, max_examples=400)
@hypothesis.given(request=requests)
def test_the_example_finds_the_fault_or_answers(example: Replica, request: dict[str, Any]) -> None:
    body = json.dumps(request)  # with NaN and Infinity, which are not JSON
    answer = example.client.post("/predict", content=body)
    document = answer.json()
    assert answer.status_code in (200, 400), document
    if answer.status_code == 200:
        assert all(0 <= p <= 1 for p in document["data"]["insts"])
    else:
        assert document["message"]


@calm
@hypothesis.given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_bytes(echo: Replica, body: bytes) -> None:
    assert echo.client.post("/predict", content=body).status_code in (200, 400)
