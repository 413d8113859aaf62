"""Envoy's admin: what the stats access logger (deploy/envoy) has counted since Envoy started.

The text form with detailed buckets is the cheapest that has the histograms in full: of 4,000 versions with traffic
2.1 MB in 55 ms, against 4.5 to 6.4 MB in 95 to 165 ms as JSON; Prometheus' form has a few buckets only, in 6.6 MB.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import httpx

from services.metrics.histogram import number

__all__ = ["Admin", "LatencySeries", "Reading", "RequestSeries", "Unreadable", "parse_bins", "parse_name", "series"]

_FILTER = r"^moorage\.(requests|latency)\.deployment\.[a-z0-9]|^server\.live$"
"""Deployments only: the platform's own routes are named `@…`, and what has no route has no name."""

_PROOF = b"server.live: 1\n"
"""A line that every whole answer has, so that an empty one is not taken for one without traffic."""

_SERIES = re.compile(
    rb"^(moorage\.[^\s:]+):(?: (\d+)|\n  totals=([^\n]*)\n  intervals=[^\n]*\n  summary=[^\n]*)\n", re.MULTILINE
)
_NAME = re.compile(
    r"moorage\.(?P<kind>requests|latency)\.deployment\.(?P<deployment>[^.]*)\.version\.(?P<version>[^.]*)"
    r"\.code\.(?P<code>\d{0,3})(?:\.client\.(?P<client>.{0,63}))?"
)
_BIN = re.compile(rb"([^,:\s]+,[^,:\s]+):(\d+)")

_NO_ANSWER = 499
"""What nginx calls a client that went away before it had its answer; Envoy says 0."""


_LARGE = 200_000
"""Bytes from which on an answer is taken apart beside the event loop, not on it."""


class Unreadable(Exception):
    """The admin gave no answer that can be used."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counts of one Envoy process at one time. `incarnation` differs for each process."""

    incarnation: str
    series: Mapping[bytes, bytes]
    """By its full name each series' count, or bins, as Envoy writes them: most are never looked into."""

    def dump(self) -> bytes:
        return b"\n".join(name + b" " + value for name, value in self.series.items())

    @classmethod
    def load(cls, incarnation: str, dumped: bytes) -> "Reading":
        pairs = (line.partition(b" ") for line in dumped.splitlines())
        return cls(incarnation, {name: value for name, _, value in pairs})


class RequestSeries(NamedTuple):
    deployment: str
    version: int
    code: int
    client: str


class LatencySeries(NamedTuple):
    deployment: str
    version: int
    code: int


class Admin:
    """Of one Envoy."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client

    async def read(self) -> Reading:
        """Raises Unreadable."""
        before = await self._incarnation()
        body = await self._get("/stats", {"filter": _FILTER, "usedonly": "", "histogram_buckets": "detailed"})
        if await self._incarnation() != before:
            raise Unreadable("Envoy was restarted meanwhile")
        return Reading(before, series(body) if len(body) < _LARGE else await asyncio.to_thread(series, body))

    async def _incarnation(self) -> str:
        """When it loaded its bootstrap. (The name that fits nothing keeps the routes out of the dump.)"""
        answer = await self._get("/config_dump", {"mask": "last_updated", "name_regex": "^$"})
        if found := re.search(rb'"last_updated": *"([^"]{1,40})"', answer):
            return found[1].decode("ascii", "replace")
        raise Unreadable(f"no start time in {answer[:200]!r}")

    async def _get(self, path: str, query: dict[str, str]) -> bytes:
        try:
            answer = await self._client.get(self.url + path, params=query)
        except httpx.HTTPError as error:
            raise Unreadable(f"{path}: {type(error).__name__} {error}") from error
        if answer.status_code != 200:
            raise Unreadable(f"{path}: status {answer.status_code}")
        return answer.content


def series(body: bytes) -> dict[bytes, bytes]:
    """Raises Unreadable unless every line is understood."""
    found: dict[bytes, bytes] = {}
    lines = body.count(b"\n")
    for name, count, totals in _SERIES.findall(body):
        found[name] = count or totals
        lines -= 1 if count else 4
    if lines != 1 or _PROOF not in body:
        raise Unreadable(f"not the stats of an Envoy: {body[:200]!r}")
    return found


@lru_cache(maxsize=100_000)
def parse_name(name: bytes) -> RequestSeries | LatencySeries | None:
    """None of a series that is not ours: one odd name must not keep all others from being counted."""
    found = _NAME.fullmatch(name.decode("ascii", "replace"))
    if found is None:
        return None
    deployment, code = found["deployment"], int(found["code"] or 0) or _NO_ANSWER
    of, _, version = found["version"].partition("/")
    # The tag is the cluster's name; of a request that was sent nowhere it is empty.
    version_number = int(version) if of == deployment and version.isdecimal() and len(version) < 10 else 0
    if found["kind"] == "latency":
        return LatencySeries(deployment, version_number, code)
    return RequestSeries(deployment, version_number, code, found["client"] or "")


def parse_bins(text: bytes) -> Iterator[tuple[int, int]]:
    """The bins and counts of Envoy's `lower,width:count, …`. Raises Unreadable."""
    bins = _BIN.findall(text)
    if text and len(bins) != text.count(b", ") + 1:
        raise Unreadable(f"not bins: {text[:200]!r}")
    for bin_, count in bins:
        yield _bin(bin_), int(count)


@lru_cache(maxsize=2000)
def _bin(text: bytes) -> int:
    lower, _, width = text.partition(b",")
    try:
        return number(float(lower), float(width))
    except ValueError as error:
        raise Unreadable(f"not a bin: {text!r}") from error
