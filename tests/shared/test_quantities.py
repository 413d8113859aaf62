"""Quantities: as Kubernetes writes them in, base units out, and nothing odd through."""

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shared.quantities import Bytes, Cores, parse_quantity


class Size(BaseModel):
    cpu: Cores = Decimal(0)
    memory: Bytes = 0


@pytest.mark.parametrize(
    ("given_", "cores"),
    [("500m", "0.5"), ("1", "1"), (2, "2"), (0.5, "0.5"), ("0.250", "0.25"), (0, "0"), ("1k", "1000"), (1e-3, "0.001")],
)
def test_cores(given_: Any, cores: str) -> None:
    assert Size(cpu=given_).cpu == Decimal(cores)


@pytest.mark.parametrize(
    ("given_", "size"),
    [("2Gi", 2**31), ("1.5Ki", 1536), (4096, 4096), ("1M", 10**6), ("1Pi", 2**50), (1e9, 10**9), ("1000m", 1)],
)
def test_bytes(given_: Any, size: int) -> None:
    assert Size(memory=given_).memory == size


ODD = [
    "", " 1", "1 ", "1\n", "-1", -1, -0.5, "+1", "1e3", "0x1", "1.", ".5", "1,5", "1Gib", "gi", "١", "NaN", "inf",
    True, None, [], {},
    float("nan"), float("inf"), 1e300, 10**400, "9" * 19, "1.0000000001", Decimal("NaN"), "1\x00",
]  # fmt: skip


@pytest.mark.parametrize("given_", ODD, ids=repr)
def test_what_is_none(given_: Any) -> None:
    for field in ("cpu", "memory"):
        with pytest.raises(ValidationError):
            Size(**{field: given_})


def test_too_fine_or_too_much() -> None:
    for odd in ({"cpu": "0.0001"}, {"cpu": 1_000_001}, {"memory": "0.5"}, {"memory": "2000Pi"}, {"memory": "1m"}):
        with pytest.raises(ValidationError):
            Size(**odd)


def test_out_come_numbers() -> None:
    assert Size(cpu="1500m", memory="1Ki").model_dump(mode="json") == {"cpu": 1.5, "memory": 1024}


@given(st.text() | st.integers() | st.floats() | st.booleans())
def test_nothing_but_a_value_error_comes_of_anything(value: Any) -> None:
    with contextlib.suppress(ValueError):
        assert parse_quantity(value) >= 0
