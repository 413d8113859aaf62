"""How often passwords may be tried: token buckets by user *and* address, and by address. Pure; the time is an argument.

Nobody can lock a user out from elsewhere: there is no bucket of the user alone, and what a stranger tries from his own
address leaves the user's untouched. In memory, each gateway for itself: several of them allow as many times more tries,
which argon2's cost and the passwords' length bear, and a table written on each try would be the easier thing to flood.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from shared.errors import TooManyRequests


@dataclass(frozen=True)
class Rate:
    """`burst` tries at once, then one every `every` seconds."""

    burst: int
    every: float


PER_USER_AND_ADDRESS = Rate(burst=10, every=6.0)
PER_ADDRESS = Rate(burst=60, every=1.0)

_REMEMBERED = 100_000  # buckets; the least recently used are forgotten, about 20 MB at most


class Throttle:
    def __init__(self) -> None:
        # When a bucket will be full again; one that is not here is full.
        self._full_at: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def take(self, *, user: str, address: str, now: float) -> "Attempt":
        """Count one try. Raises TooManyRequests. Take it before the password is checked, or many at once would pass."""
        network = network_of(address)
        buckets = {(network, user[:63]): PER_USER_AND_ADDRESS, (network,): PER_ADDRESS}
        wait = max(self._wait(key, rate, now) for key, rate in buckets.items())
        if wait > 0:
            raise TooManyRequests(
                "Too many sign-ins have failed from your address; wait before you try again.",
                retry_after=wait,
                error="too_many_requests",
            )
        for key, rate in buckets.items():
            self._full_at[key] = max(self._full_at.pop(key, now), now) + rate.every
        while len(self._full_at) > _REMEMBERED:
            self._full_at.popitem(last=False)
        return Attempt(self, buckets)

    def give_back(self, buckets: dict[tuple[str, ...], Rate]) -> None:
        for key, rate in buckets.items():
            if key in self._full_at:
                self._full_at[key] -= rate.every

    def _wait(self, key: tuple[str, ...], rate: Rate, now: float) -> float:
        return self._full_at.get(key, now) - now - rate.every * (rate.burst - 1)


@dataclass(frozen=True)
class Attempt:
    """One counted try."""

    throttle: Throttle
    buckets: dict[tuple[str, ...], Rate]

    def succeeded(self) -> None:
        """It does not count: only failures do."""
        self.throttle.give_back(self.buckets)


def network_of(address: str) -> str:
    """Who has one IPv6 address has the 2⁶⁴ beside it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
