"""Latency histograms as Envoy keeps them (circllhist): sparse, merged exactly, quantiles by interpolation.

A bin holds the values that share their first two decimal digits: 90 bins for each power of ten, whose width is 10 %
(from 10 to 11) down to 1 % (from 99 to 100) of the value. Bins have numbers: 0 holds zero, `1 + 90 e + (m - 10)` what
is in `[m 10^(e-1), (m+1) 10^(e-1))`, `m` from 10 to 99. Pure. What quantiles err by: docs/metrics.md.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import log10

__all__ = ["Histogram", "bin_of", "bounds", "number"]

_A_DECADE = 90


def number(lower: float, width: float) -> int:
    """The number of the bin that Envoy calls `lower,width`. Raises ValueError when there is no such bin."""
    if width == 0 and lower == 0:
        return 0
    if not 0 < width <= lower:
        raise ValueError(f"no bin is {width} wide from {lower}")
    exponent = round(log10(width)) + 1
    return 1 + exponent * _A_DECADE + round(lower / width) - 10


def bin_of(value: int) -> int:
    """The bin that a whole number falls into."""
    if value == 0:
        return 0
    exponent = len(str(value)) - 1
    mantissa = value * 10 // int(10**exponent)
    return 1 + exponent * _A_DECADE + mantissa - 10


def bounds(bin_: int) -> tuple[float, float]:
    """The values in the bin: from the first, up to and without the second."""
    if bin_ == 0:
        return 0.0, 0.0
    exponent, mantissa = divmod(bin_ - 1, _A_DECADE)
    # Integers as long as they are, so that a bound is the same float however it was come by.
    if exponent == 0:
        return (mantissa + 10) / 10, (mantissa + 11) / 10
    width = 10 ** (exponent - 1)
    return float((mantissa + 10) * width), float((mantissa + 11) * width)


class Histogram:
    """How many values fell into which bin."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    @classmethod
    def of(cls, values: Iterable[int]) -> "Histogram":
        return cls(Counter(map(bin_of, values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and +self.counts == +other.counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Histogram({dict(sorted(self.counts.items()))})"

    @property
    def total(self) -> int:
        return self.counts.total()

    def add(self, bins: Iterable[int], counts: Iterable[int]) -> None:
        """Merge another one into this: the same as if all values had been counted here."""
        for bin_, count in zip(bins, counts, strict=True):
            self.counts[bin_] += count

    def quantiles(self, shares: Sequence[float]) -> list[float] | None:
        """The values below which these shares (ascending) of all lie; None of an empty histogram.

        Within a bin the values are taken to be spread as its neighbours make likely: the number of values below is a
        curve that is exact at the bounds of bins and monotone and smooth between them. Of all but the narrowest
        distributions it errs by a half to a quarter of what a straight line does.
        """
        total = self.total
        if not total:
            return None
        found: list[float] = []
        below = 0
        bins = iter(sorted(bin_ for bin_, count in self.counts.items() if count))
        bin_ = next(bins)
        for share in shares:
            rank = share * total
            while below + self.counts[bin_] < rank:
                below += self.counts[bin_]
                bin_ = next(bins)
            lower, upper = bounds(bin_)
            found.append(lower + (upper - lower) * self._place(bin_, (rank - below) / self.counts[bin_]))
        return found

    def _place(self, bin_: int, share: float) -> float:
        """Where in the bin (0 to 1) that share of its values is reached."""
        left, right = self._slope(bin_ - 1, bin_, of=bin_), self._slope(bin_, bin_ + 1, of=bin_)
        low, high = 0.0, 1.0
        for _ in range(12):  # bisection, to 1/4096 of the bin
            t = (low + high) / 2
            reached = t * t * (3 - 2 * t) + t * (1 - t) * (left * (1 - t) - right * t)
            low, high = (t, high) if reached < share else (low, t)
        return (low + high) / 2

    def _slope(self, first: int, second: int, *, of: int) -> float:
        """How dense the values are where the two bins meet, with the mean density in the bin `of` as the unit.

        The harmonic mean that keeps the curve monotone (Fritsch and Butland 1984); 0 beside an empty bin.
        """
        if first < 1 or not self.counts[first] or not self.counts[second]:
            return 0.0
        (a, b), (_, c) = bounds(first), bounds(second)
        before, after = b - a, c - b
        weights = 2 * after + before, after + 2 * before
        density = sum(weights) / (weights[0] * before / self.counts[first] + weights[1] * after / self.counts[second])
        lower, upper = bounds(of)
        return density * (upper - lower) / self.counts[of]

    def cumulative(self, limits: Sequence[float]) -> list[int]:
        """How many values are below each of the limits (ascending); exact when these are bounds of bins."""
        within = [0] * len(limits)
        for bin_, count in self.counts.items():
            upper = bounds(bin_)[1]
            place = next((place for place, limit in enumerate(limits) if upper <= limit), None)
            if place is not None:
                within[place] += count
        return list(accumulate(within))

    def sum(self) -> float:
        """About the sum of all values: each counts as the middle of its bin."""
        return sum(count * sum(bounds(bin_)) / 2 for bin_, count in self.counts.items())
