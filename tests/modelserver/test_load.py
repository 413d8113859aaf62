"""Many at once: threads, batches, the bound of the queue, and the end with requests in flight."""

import socket
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .conftest import Replica, Serve, until

GATED = """
import pathlib, threading, time

class InferenceService:
    def __init__(self, model_path):
        self.folder = pathlib.Path(model_path)

    def process_request(self, request):
        if "gate" in request:
            (self.folder / "entered").touch()
            while not (self.folder / request["gate"]).exists():
                time.sleep(0.005)
        if request.get("bad"):
            raise ValueError("bad")
        return {"n": request.get("n"), "alone": True, "thread": threading.current_thread().name}
"""

BATCHED = (
    GATED
    + """
    def process_batch(self, requests):
        mode = requests[0].get("mode")
        if any(request.get("bad") for request in requests):
            raise RuntimeError("one of them is bad")
        if mode == "short":
            return []
        if mode == "none":
            return None
        return [{"n": request["n"], "together": len(requests)} for request in requests]
"""
)


def folder_of(replica: Replica) -> Path:
    return replica.log_path.parent / "model"


def hold(replica: Replica, pool: ThreadPoolExecutor, gate: str = "go") -> "Future[httpx.Response]":
    """A request that is inside the model until `gate` is opened."""
    held = pool.submit(replica.predict, {"gate": gate})
    until((folder_of(replica) / "entered").exists, what="the request is inside the model")
    return held


def waiting(replica: Replica) -> int:
    lines = replica.client.get("/metrics").text.splitlines()
    return int(next(line for line in lines if line.startswith("modelserver_queue_waiting")).split()[1])


def test_a_busy_model_does_not_hold_up_the_probes_and_the_queue_is_bounded(serve: Serve) -> None:
    replica = serve(GATED, queue_limit=3)
    with ThreadPoolExecutor(8) as pool:
        held = hold(replica, pool)
        queued = [pool.submit(replica.predict, {"n": n}) for n in range(3)]
        until(lambda: waiting(replica) == 3, what="three requests wait")
        refused = replica.predict({})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "too many requests" in refused.json()["message"]
        assert replica.client.get("/healthz").status_code == 200
        assert replica.client.get("/readyz").status_code == 200
        (folder_of(replica) / "go").touch()
        assert [answer.result().json()["data"]["n"] for answer in queued] == [0, 1, 2]
        assert held.result().status_code == 200


def test_several_threads_work_at_once(serve: Serve) -> None:
    replica = serve(GATED, threads=2)
    with ThreadPoolExecutor(2) as pool:
        held = hold(replica, pool)
        quick = replica.predict({"n": 1})
        assert not held.done()
        (folder_of(replica) / "go").touch()
        assert held.result().json()["data"]["thread"] != quick.json()["data"]["thread"]


def run_batch(replica: Replica, requests: list[dict[str, object]]) -> list[httpx.Response]:
    """Answers to requests that all waited while another one was inside the model."""
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        held = hold(replica, pool)
        queued = []
        for number, request in enumerate(requests, start=1):
            queued.append(pool.submit(replica.predict, request))
            until(lambda number=number: waiting(replica) == number, what="it waits")
        (folder_of(replica) / "go").touch()
        assert held.result().status_code == 200
        return [answer.result() for answer in queued]


def test_waiting_requests_are_handed_over_together(serve: Serve) -> None:
    answers = run_batch(serve(BATCHED, batch_limit=4), [{"n": n} for n in range(6)])
    assert [answer.json()["data"] for answer in answers] == [
        *({"n": n, "together": 4} for n in range(4)),
        *({"n": n, "together": 2} for n in (4, 5)),
    ]


@pytest.mark.parametrize("first", [{"bad": True}, {"mode": "short", "n": 0}, {"mode": "none", "n": 0}])
def test_a_failing_batch_is_tried_one_by_one(serve: Serve, first: dict[str, object]) -> None:
    answers = run_batch(serve(BATCHED), [first, {"n": 1}, {"n": 2}])
    assert answers[0].status_code == (400 if "bad" in first else 200)
    assert [answer.json()["data"]["n"] for answer in answers[1:]] == [1, 2]
    assert all(answer.json()["data"]["alone"] for answer in answers[1:])


def test_a_batch_sorts_out_what_is_not_json(serve: Serve) -> None:
    replica = serve(BATCHED)
    with ThreadPoolExecutor(4) as pool:
        held = hold(replica, pool)
        broken = pool.submit(replica.client.post, "/predict", content=b"{")
        until(lambda: waiting(replica) == 1, what="it waits")
        fine = pool.submit(replica.predict, {"n": 1})
        until(lambda: waiting(replica) == 2, what="it waits")
        (folder_of(replica) / "go").touch()
        assert (held.result().status_code, broken.result().status_code) == (200, 400)
        assert fine.result().json()["data"]["n"] == 1


def test_sigterm_drains(serve: Serve) -> None:
    replica = serve(GATED)
    with ThreadPoolExecutor(8) as pool:
        held = hold(replica, pool)
        queued = [pool.submit(replica.predict, {"n": n}) for n in range(3)]
        until(lambda: waiting(replica) == 3, what="three requests wait")
        replica.terminate()
        until(lambda: replica.client.get("/readyz").status_code == 503, what="it says that it drains")
        late = pool.submit(replica.predict, {"n": 9})
        until(lambda: waiting(replica) == 4, what="a late request is still taken")
        assert replica.process.poll() is None
        (folder_of(replica) / "go").touch()
        for answer in [held, *queued, late]:
            assert answer.result().status_code == 200
            assert answer.result().headers["connection"] == "close"
    assert replica.ended() == 0


def test_an_idle_connection_does_not_hold_up_the_end(serve: Serve) -> None:
    replica = serve(GATED)
    address = (replica.client.base_url.host, replica.client.base_url.port or 0)
    with socket.create_connection(address, 10) as silent, socket.create_connection(address, 10) as half:
        half.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\n")
        replica.terminate()
        assert replica.ended() == 0
        assert silent.recv(1) == b""


def test_a_drain_has_an_end(serve: Serve) -> None:
    replica = serve(GATED, drain_seconds=0.3)
    with ThreadPoolExecutor(1) as pool:
        held = hold(replica, pool, gate="never")
        replica.terminate()
        assert replica.ended() == 75
        assert held.result().status_code == 503
        assert "had to end" in held.result().json()["message"]
    assert "requests_abandoned=1" in replica.log


def test_a_client_that_leaves_early_harms_nobody(serve: Serve) -> None:
    replica = serve(GATED)
    address = (replica.client.base_url.host, replica.client.base_url.port or 0)
    with ThreadPoolExecutor(1) as pool:
        held = hold(replica, pool)
        for body in (b'{"n": 1}', b'{"n":'):
            with socket.create_connection(address, 10) as leaving:
                leaving.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n" + body)
        until(lambda: waiting(replica) == 1, what="the whole one waits")
        (folder_of(replica) / "go").touch()
        assert held.result().status_code == 200
    assert replica.predict({"n": 2}).json()["data"]["n"] == 2
    assert "ERROR" not in replica.log
