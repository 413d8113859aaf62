"""What every Envoy shall hold, and which Envoys there are. In memory, one event loop, no locks.

The store is *wanted* state: it never waits. Each connected Envoy (`Peer`) converges to it on its own; `status` says how
far all of them are, for one bundle. An Envoy that is expected and not connected is `missing`: it goes on routing by
what it had. Who is expected, and for how long, others decide (`expect`).
"""

import asyncio
import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from services.gateway.envoy.resources import Bundle

__all__ = ["Phase", "Status", "Store", "Subscriber"]


class Phase(enum.Enum):
    """How far a bundle is, over all connected Envoys."""

    UNKNOWN = "unknown"  # no Envoy is connected
    PENDING = "pending"
    REJECTED = "rejected"
    ENFORCED = "enforced"


@dataclass(frozen=True, slots=True)
class Status:
    """`refused`: versions of the resources that are refused; `waiting`: some Envoy has yet to answer."""

    phase: Phase
    reason: str = ""
    refused: frozenset[str] = frozenset()
    waiting: bool = False


class Subscriber(Protocol):
    """A connected Envoy, as the store sees it."""

    @property
    def node(self) -> str:
        """Its name, the same on every stream."""

    @property
    def caught_up(self) -> bool:
        """Whether it has, since it connected, held each bundle as it was wanted then."""

    def touch(self, ids: Iterable[str]) -> None:
        """These bundles are wanted otherwise than before."""

    def status(self, bundle_id: str) -> Status:
        """How far this Envoy is with it."""


Listener = Callable[[Iterable[str] | None], None]


class Store:
    """Wanted bundles by id, and who is to hold them."""

    def __init__(self, bundles: Mapping[str, Bundle] | None = None) -> None:
        self._bundles: dict[str, Bundle] = dict(bundles or {})
        self._subscribers: set[Subscriber] = set()
        self._expected: frozenset[str] = frozenset()
        self.elsewhere = False
        self.changed = asyncio.Event()
        """Set when an Envoy has connected or gone."""

        self._listener: Listener | None = None

    def __len__(self) -> int:
        return len(self._bundles)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bundles)

    def get(self, bundle_id: str) -> Bundle | None:
        return self._bundles.get(bundle_id)

    def apply(self, changes: Mapping[str, Bundle | None]) -> None:
        """Want this from now on. Absent bundles that are removed are touched too: an Envoy may still hold them."""
        for bundle_id, bundle in changes.items():
            if bundle is None:
                self._bundles.pop(bundle_id, None)
            else:
                self._bundles[bundle_id] = bundle
        for subscriber in self._subscribers:
            subscriber.touch(changes)

    def status(self, bundle_id: str) -> Status:
        """The worst of all connected Envoys."""
        if not self._subscribers:
            return Status(Phase.UNKNOWN)
        found = {subscriber: subscriber.status(bundle_id) for subscriber in self._subscribers}
        waiting = any(status.phase is Phase.PENDING for status in found.values())
        refusals = {s.node: status for s, status in found.items() if status.phase is Phase.REJECTED}
        if not refusals:
            return Status(Phase.PENDING if waiting else Phase.ENFORCED, waiting=waiting)
        node = min(refusals)
        # If it is not all of them, whoever reads it must know where to look.
        reason = refusals[node].reason if len(found) == 1 else f"{node}: {refusals[node].reason}"
        refused = frozenset().union(*(status.refused for status in refusals.values()))
        return Status(Phase.REJECTED, reason, refused, waiting)

    @property
    def connected(self) -> int:
        return len(self._subscribers)

    @property
    def nodes(self) -> frozenset[str]:
        """The names of those that are connected."""
        return frozenset(subscriber.node for subscriber in self._subscribers)

    @property
    def missing(self) -> frozenset[str]:
        """Those that are expected and not connected: nobody knows what they route by."""
        return self._expected - self.nodes

    def caught_up(self, node: str) -> bool:
        return all(subscriber.caught_up for subscriber in self._subscribers if subscriber.node == node)

    def expect(self, nodes: Collection[str], *, elsewhere: bool = False) -> None:
        """These count, connected or not, and no others that are not connected. `elsewhere`: others serve Envoys too."""
        before = self.missing, self.elsewhere
        self._expected, self.elsewhere = frozenset(nodes), elsewhere
        if (self.missing, self.elsewhere) != before:
            self.progressed(None)

    def connect(self, subscriber: Subscriber) -> None:
        """From its first request on, when its name is known: before that it is one that is missing, or nobody."""
        self._subscribers.add(subscriber)
        self.changed.set()

    def disconnect(self, subscriber: Subscriber) -> None:
        """Unless it is expected it stops counting: what the others hold may now be all there is to wait for."""
        self._subscribers.discard(subscriber)
        self.changed.set()
        self.progressed(None)

    def listen(self, listener: Listener) -> None:
        """Call this with the ids whose status may have changed; None says that any may have."""
        self._listener = listener

    def progressed(self, ids: Iterable[str] | None) -> None:
        if self._listener is not None:
            self._listener(ids)
