"""What every Envoy shall hold, and which Envoys are connected. In memory, one event loop, no locks.

The store is *wanted* state: it never waits. Each connected Envoy (`Peer`) converges to it on its own; `status` says how
far all of them are, for one bundle.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    phase: Phase
    reason: str = ""


class Subscriber(Protocol):
    """A connected Envoy, as the store sees it."""

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
        worst = Status(Phase.ENFORCED) if self._subscribers else Status(Phase.UNKNOWN)
        for subscriber in self._subscribers:
            status = subscriber.status(bundle_id)
            if status.phase is Phase.REJECTED:
                return status
            if status.phase is Phase.PENDING:
                worst = status
        return worst

    @property
    def connected(self) -> int:
        return len(self._subscribers)

    def connect(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)

    def disconnect(self, subscriber: Subscriber) -> None:
        """It stops counting. What the others hold may now be all there is to wait for."""
        self._subscribers.discard(subscriber)
        self.progressed(None)

    def listen(self, listener: Listener) -> None:
        """Call this with the ids whose status may have changed; None says that any may have."""
        self._listener = listener

    def progressed(self, ids: Iterable[str] | None) -> None:
        if self._listener is not None:
            self._listener(ids)
