"""What is made of Envoy's answers, whole or broken, going up or starting again."""

import pytest

from services.metrics.envoy import LatencySeries, Reading, RequestSeries, Unreadable, series
from services.metrics.histogram import Histogram, bin_of
from services.metrics.increments import increments

REQUESTS = "moorage.requests.deployment.churn.version.churn/1.code.200.client.ana.b-2"
LATENCY = "moorage.latency.deployment.churn.version.churn/1.code.200"


def reading(body: str, *, incarnation: str = "one") -> Reading:
    return Reading(incarnation, series((body + "server.live: 1\n").encode()))


def requests(count: int, name: str = REQUESTS) -> str:
    return f"{name}: {count}\n"


def latency(totals: str) -> str:
    return f"{LATENCY}:\n  totals={totals}\n  intervals=\n  summary=P0(nan,1)\n"


def added(last: str | None, now: str, *, restarted: bool = False) -> int:
    before = None if last is None else reading(last)
    return increments(before, reading(now, incarnation="two" if restarted else "one")).requests.total()


def test_names_of_series() -> None:
    found = increments(None, reading(requests(3) + latency("220,10:1, 1100000,100000:2")))
    assert found.requests == {RequestSeries("churn", 1, 200, "ana.b-2"): 3}
    expected = Histogram({bin_of(225): 1, bin_of(1_150_000): 2})
    assert found.latencies == {LatencySeries("churn", 1, 200): expected}


@pytest.mark.parametrize(
    ("version", "code", "client", "expected"),
    [
        ("", "503", "ana", RequestSeries("churn", 0, 503, "ana")),
        ("registry", "200", "", RequestSeries("churn", 0, 200, "")),
        ("other/1", "200", "", RequestSeries("churn", 0, 200, "")),
        ("churn/2", "0", "", RequestSeries("churn", 2, 499, "")),
        ("churn/2", "", "", RequestSeries("churn", 2, 499, "")),
    ],
)
def test_what_reached_no_version(version: str, code: str, client: str, expected: RequestSeries) -> None:
    name = f"moorage.requests.deployment.churn.version.{version}.code.{code}.client.{client}"
    assert increments(None, reading(requests(1, name))).requests == {expected: 1}


def test_a_name_that_is_not_ours_is_passed_over() -> None:
    assert added(None, requests(2) + "moorage.requests.deployment.a.b.c: 7\n") == 2


def test_counts_go_up() -> None:
    assert added(requests(5), requests(8)) == 3
    assert added(requests(5), requests(5)) == 0


def test_lower_than_before_is_a_reset() -> None:
    assert added(requests(5), requests(2)) == 2


def test_another_process_counts_from_zero_even_if_it_has_counted_more() -> None:
    assert added(requests(5), requests(8), restarted=True) == 8


def test_an_evicted_series_counts_from_zero_when_it_is_back() -> None:
    gone = increments(reading(requests(5)), reading(""))
    assert gone.evicted
    assert gone
    assert added("", requests(8)) == 8


def test_histograms_go_up_and_start_again() -> None:
    first, more, reset = (reading(latency(t)) for t in ("10,1:5", "10,1:6, 20,1:1", "20,1:2"))
    key = LatencySeries("churn", 1, 200)
    assert increments(first, more).latencies[key] == Histogram({bin_of(10): 1, bin_of(20): 1})
    assert increments(more, reset).latencies[key] == Histogram({bin_of(20): 2})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"server.live: 1",
        b'{"stats": []}\nserver.live: 1\n',
        f"{REQUESTS}: twelve\nserver.live: 1\n".encode(),
        f"{REQUESTS}: 12\n{LATENCY}:\n  totals=10,1:5\nserver.live: 1\n".encode(),
        f"{REQUESTS}: 12\n".encode(),
        b"\xff\x00\nserver.live: 1\n",
    ],
)
def test_garbage_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Unreadable):
        series(body)


def test_bins_that_are_none_are_refused() -> None:
    with pytest.raises(Unreadable):
        increments(None, reading(latency("ten,1:5")))
    with pytest.raises(Unreadable):
        increments(None, reading(latency("10,1:5, 20")))


def test_a_reading_is_kept_whole() -> None:
    kept = reading(requests(3) + latency("220,10:1, 1100000,100000:2"))
    assert Reading.load(kept.incarnation, kept.dump()) == kept
    assert Reading.load("one", reading("").dump()).series == {}
