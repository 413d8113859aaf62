"""The protocol of /predict and the pages around it, over real sockets."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Replica, Serve

MODEL = """
import os
import numpy as np
from modelserver import current_request

class InferenceService:
    def __init__(self, model_path):
        self.path = model_path

    def process_request(self, request):
        kind = request.get("kind")
        if kind == "value_error":
            raise ValueError("the third column is missing")
        if kind == "key_error":
            return request["absent, and secret"]
        if kind == "exit":
            raise SystemExit(3)
        if kind == "recursion":
            return self.process_request(request)
        if kind == "object":
            return object()
        if kind == "numpy":
            array = np.arange(6, dtype=np.float32).reshape(2, 3)
            return {"a": array, "t": array.T, "s": np.float64(0.5), "nan": float("nan"), 7: {1}}
        if kind == "caller":
            return {"user": current_request.user, "headers": current_request.headers}
        if kind == "path":
            return os.listdir(self.path)
        return request
"""


@pytest.fixture(scope="module")
def replica(serve: Serve) -> Replica:
    return serve(MODEL, deployment="churn-score", deployment_version=1, body_limit=100_000)


def failed(answer: httpx.Response, status: int) -> str:
    """The message of an answer that must have failed properly."""
    document = answer.json()
    assert (answer.status_code, document["code"], document["data"]) == (status, status, None)
    assert "Traceback" not in answer.text
    assert document["message"]
    return str(document["message"])


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/predict/churn",
        "/predict/churn/3",
        "/predict/churn/1",
        "/predict/churn-score/1",
        "/predict/churn%2Dscore/3?x=1",
    ],
)
def test_every_accepted_address_answers_in_tdinsights_shape(replica: Replica, path: str) -> None:
    answer = replica.predict({"a": [1, None, "ü"]}, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"message": "SUCCESS", "code": 0, "data": {"a": [1, None, "ü"]}}


@pytest.mark.parametrize(
    "path", ["/predict/other", "/predict/churn/2", "/predict/churn/03", "/predict/churn/3/", "/predict/"]
)
def test_another_model_or_version_is_a_404_that_says_what_is_served(replica: Replica, path: str) -> None:
    message = failed(replica.predict({}, path), 404)
    assert "'churn' or 'churn-score'" in message
    assert "3 or 1" in message


def test_unknown_paths_and_methods(replica: Replica) -> None:
    failed(replica.predict({}, "/nothing"), 404)
    answer = replica.client.get("/predict/churn/3")
    failed(answer, 405)
    assert answer.headers["allow"] == "POST"
    answer = replica.client.post("/readyz")
    failed(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"type=libsvm",
        b'{"a":' * 5000,
        b'{"a":' + b"[" * 90_000,
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(replica: Replica, body: bytes) -> None:
    failed(replica.client.post("/predict", content=body, headers={"content-type": "text/plain"}), 400)


@pytest.mark.parametrize("depth", [150, 300, 500, 1000])
def test_nesting_is_answered_or_refused_but_never_an_error_of_ours(replica: Replica, depth: int) -> None:
    answer = replica.client.post("/predict", content=b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    assert answer.status_code == (200 if depth < 200 else 400)


def test_huge_integers_pass(replica: Replica) -> None:
    answer = replica.client.post("/predict", content=b'{"a": 123456789012345678901234567890}')
    assert answer.json()["data"] == {"a": 1.2345678901234568e29}


def test_the_content_type_does_not_matter(replica: Replica) -> None:
    answer = replica.client.post("/predict", content=b'{"a": 1}', headers={"content-type": "text/csv"})
    assert answer.json()["data"] == {"a": 1}


def test_a_body_over_the_limit_is_a_413(replica: Replica) -> None:
    answer = replica.client.post("/predict", content=b'{"a": "' + b"x" * 150_000 + b'"}')
    assert "100000 bytes" in failed(answer, 413)
    assert replica.predict({"a": "x" * 90_000}).status_code == 200


def test_value_error_is_the_requests_fault(replica: Replica) -> None:
    assert failed(replica.predict({"kind": "value_error"}), 400) == "the third column is missing"


@pytest.mark.parametrize(("kind", "error"), [("key_error", "KeyError"), ("exit", "SystemExit"), ("recursion", "Recur")])
def test_any_other_error_is_the_models_and_its_traceback_is_in_the_log_only(
    replica: Replica, kind: str, error: str
) -> None:
    answer = replica.predict({"kind": kind}, headers={"x-request-id": f"id-of-{kind}"})
    message = failed(answer, 500)
    assert error in message
    assert f"id-of-{kind}" in message
    assert "secret" not in answer.text
    assert f"request_id=id-of-{kind}" in replica.log
    assert "Traceback" in replica.log
    assert replica.predict({}).status_code == 200


def test_a_result_without_json_form_is_a_500(replica: Replica) -> None:
    assert "object" in failed(replica.predict({"kind": "object"}), 500)


def test_numpy_results(replica: Replica) -> None:
    assert replica.predict({"kind": "numpy"}).json()["data"] == {
        "a": [[0, 1, 2], [3, 4, 5]], "t": [[0, 3], [1, 4], [2, 5]], "s": 0.5, "nan": None, "7": [1],
    }  # fmt: skip


def test_the_model_learns_the_caller(replica: Replica) -> None:
    headers = [("X-Forwarded-User", "ana"), ("X-Tag", "a"), ("x-tag", "b")]
    caller = replica.predict({"kind": "caller"}, headers=headers).json()["data"]
    assert caller["user"] == "ana"
    assert caller["headers"]["x-tag"] == "a, b"
    assert replica.predict({"kind": "caller"}).json()["data"]["user"] is None


def test_the_class_gets_the_models_folder(replica: Replica) -> None:
    assert "inference_service.py" in replica.predict({"kind": "path"}).json()["data"]


def test_pages(replica: Replica) -> None:
    assert replica.client.get("/healthz").json() == {"message": "SUCCESS", "code": 0, "data": "alive"}
    assert replica.client.head("/readyz").status_code == 200
    assert "/predict/{model}/{version}" in replica.client.get("/openapi.json").json()["paths"]


def test_metrics_count_what_was_answered(serve: Serve) -> None:
    replica = serve(MODEL)
    for request in ({}, {}, {"kind": "value_error"}, {"kind": "key_error"}):
        replica.predict(request)
    page = replica.client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    figures = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
    counts = {key: value for key, value in figures.items() if key.startswith("modelserver_requests_total")}
    assert {key[-5:-2]: value for key, value in counts.items()} == {"200": "2", "400": "1", "500": "1"}
    assert figures["modelserver_request_seconds_count"] == "4"
    assert figures["modelserver_requests_in_flight"] == figures["modelserver_queue_waiting"] == "0"
    assert figures["modelserver_ready"] == "1"


def test_pipelined_requests_are_answered_in_order(replica: Replica) -> None:
    import socket

    def request(number: int) -> bytes:
        body = json.dumps({"n": number}).encode()
        return b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    received = b""
    with socket.create_connection((replica.client.base_url.host, replica.client.base_url.port or 0), 10) as raw:
        raw.sendall(b"".join(map(request, range(20))))
        while received.count(b"SUCCESS") < 20:
            received += raw.recv(65536)
    answers: list[Any] = [json.loads(part.split(b"\r\n\r\n")[1]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert [answer["data"]["n"] for answer in answers] == list(range(20))
