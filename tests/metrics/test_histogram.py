"""Bins as Envoy's, merging exact, quantiles within the bin that holds them."""

import random
from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics.histogram import Histogram, bin_of, bounds, number

LATENCIES = st.integers(0, 10**12)
MANY = st.lists(LATENCIES, min_size=1, max_size=200)


@given(LATENCIES)
def test_a_value_lies_in_its_bin(value: int) -> None:
    lower, upper = bounds(bin_of(value))
    assert lower <= value < upper or value == lower == upper == 0


@given(st.integers(1, 1500))
def test_a_bin_is_known_by_how_envoy_writes_it(bin_: int) -> None:
    lower, upper = bounds(bin_)
    assert number(lower, upper - lower) == bin_
    assert bounds(bin_ + 1)[0] == upper
    assert (upper - lower) / lower < 0.1 + 1e-9


@given(MANY, MANY)
def test_merging_is_the_same_as_counting_together(ours: list[int], theirs: list[int]) -> None:
    merged, other = Histogram.of(ours), Histogram.of(theirs)
    merged.add(other.counts.keys(), other.counts.values())
    assert merged == Histogram.of(ours + theirs)
    assert merged.total == len(ours) + len(theirs)


@given(MANY, st.floats(0.001, 1))
def test_a_quantile_lies_in_the_bin_of_the_exact_one(values: list[int], share: float) -> None:
    rank = share * len(values)
    exact = sorted(values)[max(ceil(rank), 1) - 1]
    found = Histogram.of(values).quantiles([share])
    lower, upper = bounds(bin_of(exact))
    assert found is not None
    assert lower <= found[0] <= upper


@given(MANY)
def test_quantiles_ascend(values: list[int]) -> None:
    found = Histogram.of(values).quantiles([0.1, 0.5, 0.9, 0.95, 0.99, 1])
    assert found is not None
    assert found == sorted(found)


@given(MANY)
def test_counts_below_a_bound_are_exact(values: list[int]) -> None:
    limits = [1_000, 2_500, 1_000_000, 60_000_000]
    assert Histogram.of(values).cumulative(limits) == [sum(value < limit for value in values) for limit in limits]


def test_smooth_latencies_err_by_less_than_one_percent() -> None:
    rng = random.Random(7)
    values = sorted(int(rng.lognormvariate(8.5, 0.5)) for _ in range(100_000))
    shares = [0.5, 0.9, 0.95, 0.99]
    found = Histogram.of(values).quantiles(shares)
    assert found is not None
    for share, value in zip(shares, found, strict=True):
        assert value == pytest.approx(values[int(share * len(values)) - 1], rel=0.01)


def test_nothing_has_no_quantiles() -> None:
    assert Histogram().quantiles([0.5]) is None
    assert Histogram(Counter({7: 0})).quantiles([0.5]) is None
