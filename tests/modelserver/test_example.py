"""The breast cancer example through the server: the answers are the model's own, and every mistake is explained."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .conftest import Replica

Json = dict[str, Any]


@pytest.fixture(scope="module")
def samples(trained: Path) -> dict[int, Json]:
    return {variant: json.loads((trained / f"v{variant}" / "samples.json").read_text()) for variant in (1, 2)}


def libsvm(row: list[float]) -> str:
    return "0 " + " ".join(f"{index}:{value!r}" for index, value in enumerate(row, start=1))


def request(insts: Any, kind: str = "libsvm", **more: Any) -> Json:
    return {"type": kind, "feature_num": "30", "data": {"insts": insts}} | more


def test_what_training_writes(trained: Path, samples: dict[int, Json]) -> None:
    for variant in (1, 2):
        folder = trained / f"v{variant}"
        assert {path.name for path in (folder / "model").iterdir()} == {
            "model.joblib",
            "inference_service.py",
            "example.json",
        }
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["accuracy"] > 0.9
        losses = json.loads((folder / "curves.json").read_text())["loss"]
        assert [step for step, _ in losses] == list(range(1, len(losses) + 1))
        assert losses[-1][1] < losses[0][1]
    assert samples[1]["rows"] == samples[2]["rows"]
    differences = [abs(a - b) for a, b in zip(samples[1]["expected"], samples[2]["expected"], strict=True)]
    assert min(differences) > 0.001


def test_answers_equal_the_models_own_predictions(example: Replica, samples: dict[int, Json]) -> None:
    rows, expected = samples[1]["rows"], samples[1]["expected"]
    texts = [libsvm(row) for row in rows]
    for insts, kind in (
        (texts, "libsvm"),
        (rows, "dense"),
        ([",".join(map(repr, row)) for row in rows], "dense"),
        ([" ".join(map(repr, row)) for row in rows], "dense"),
    ):
        answer = example.predict(request(insts, kind), "/predict/churn/3")
        assert answer.json() == {"message": "SUCCESS", "code": 0, "data": {"insts": expected}}
    for one, kind in ((texts[0], "libsvm"), (rows[0], "dense")):
        assert example.predict(request(one, kind)).json()["data"] == {"insts": expected[:1]}


def test_the_models_own_example_is_a_request_that_it_takes(
    example: Replica, trained: Path, samples: dict[int, Json]
) -> None:
    body = json.loads((trained / "v1" / "model" / "example.json").read_text())
    assert example.predict(body).json()["data"] == {"insts": samples[1]["expected"][:1]}


def test_batches_give_each_caller_its_own_rows(example: Replica, samples: dict[int, Json]) -> None:
    rows, expected = samples[1]["rows"], samples[1]["expected"]

    def ask(number: int) -> None:
        first, count = number % 60, 1 + number % 4
        answer = example.predict(request(rows[first : first + count], "dense"))
        assert answer.json()["data"]["insts"] == expected[first : first + count]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(300)))


def test_sparse_rows_have_zeros_where_nothing_is_named(example: Replica, samples: dict[int, Json]) -> None:
    row = samples[1]["rows"][0]
    sparse = [value if index % 2 else 0.0 for index, value in enumerate(row)]
    text = "1 " + " ".join(f"{index}:{value!r}" for index, value in enumerate(sparse, start=1) if value)
    answers = [example.predict(request(sparse, "dense")), example.predict(request(text, feature_num=30))]
    assert answers[0].json()["data"] == answers[1].json()["data"]


FULL = [0.5] * 30
WRONG: list[tuple[Json, str]] = [
    ({}, "type must be"),
    (request("0 1:1", "csv"), "type must be"),
    (request("0 1:1", feature_num="29"), "feature_num must be 30"),
    ({"type": "dense", "data": {"insts": FULL}}, "feature_num must be 30"),
    (request(FULL, "dense", data=FULL), 'data must be an object with "insts"'),
    (request({"1": 2}), "must be a string or a list"),
    (request([]), "between 1 and 10000 rows"),
    (request([FULL] * 10_001, "dense"), "between 1 and 10000 rows"),
    (request(""), "row 1: must be text"),
    (request(["0 1:1", 7]), "row 2: must be text"),
    (request("1:0.5 2:1"), "must begin with a label"),
    (request("yes 1:0.5"), "could not convert"),
    (request("0 1:0.5 2"), "must be index:value"),
    (request("0 1:0.5:7"), "must be index:value"),
    (request("0 one:0.5"), "must be index:value"),
    (request("0 1:half"), "could not convert"),
    (request("0 0:0.5"), "indices count from 1 to 30"),
    (request("0 31:0.5"), "indices count from 1 to 30"),
    (request("0 3:0.5 3:0.6"), "given twice"),
    (request("0 1:nan"), "not finite"),
    (request("0 1:-inf"), "not finite"),
    (request("0 1:1e300"), "too large"),
    (request(FULL[1:], "dense"), "must have 30 values, not 29"),
    (request([FULL, [*FULL, 1]], "dense"), "row 2: must have 30 values, not 31"),
    (request([*FULL[1:], "x"], "dense"), "must be a list of numbers"),
    (request([[*FULL[1:], True]], "dense"), "must be a list of numbers"),
    (request("1,2,x", "dense"), "could not convert"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
def test_every_mistake_is_explained(example: Replica, wrong: Json, message: str) -> None:
    answer = example.predict(wrong)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
