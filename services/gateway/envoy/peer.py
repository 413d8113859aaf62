"""One connected Envoy: the delta xDS protocol as a state machine, without I/O.

Requests go in (`receive`), responses come out (`responses`). Every bundle converges on its own, in the order that makes
a change invisible to those who call meanwhile (the *barrier*):

    clusters and endpoints  →  acknowledged  →  scopes  →  acknowledged  →  clusters that are wanted no more go

That holds for a change, for an Envoy that comes back after a while and holds something older, and for a new one alike.
What Envoy refuses together with others is sent again by itself: one bad resource is found, and stops nobody else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from services.gateway.envoy.resources import CLUSTER, ENDPOINTS, SCOPE, TYPES, Key, Resource, owner
from services.gateway.envoy.store import Phase, Status, Store

__all__ = ["Peer"]

_GONE: Final = ""
"""The version of what is not there: to send it is to remove, to hold it is not to have it."""

_UNKNOWN: Final = "?"
"""Envoy has refused this among others, and may have taken in some of them."""

_WARMING = (CLUSTER, ENDPOINTS)

_REASON: Final = 500
"""Characters kept of a refusal: Envoy quotes the whole resource in some."""


@dataclass(slots=True)
class _Record:
    """What we know of one resource at this Envoy. Versions; None: nothing."""

    held: str = _GONE
    under_way: str | None = None
    nonce: int = 0  # of the response that carries what is under way
    since: int = 0  # answers to this response and earlier ones are not about this record
    refused: str | None = None
    reason: str = ""
    alone: bool = False

    @property
    def heading(self) -> str:
        """What it will hold once everything sent is acknowledged."""
        return self.held if self.under_way is None else self.under_way

    def settled_at(self, version: str) -> bool:
        return self.under_way is None and self.held == version


@dataclass(slots=True)
class _Outbox:
    """What the next responses carry, by type."""

    resources: defaultdict[str, list[Resource]] = field(default_factory=lambda: defaultdict(list))
    removals: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    alone: list[tuple[Key, Resource | None]] = field(default_factory=list)


class Peer:
    """Implements `store.Subscriber`."""

    def __init__(self, store: Store, *, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._records: dict[Key, _Record] = {}
        self._keys: defaultdict[str, set[Key]] = defaultdict(set)
        self._subscribed: set[str] = set()
        self._endpoint_names: set[str] = set()
        self._flights: dict[int, list[tuple[Key, str]]] = {}
        self._nonce = 0
        self._dirty: dict[str, None] = {}  # a set that keeps its order
        self._cold: set[str] = set()
        self._unanswered: set[str] = set()
        self._behind: set[str] | None = None
        self.node = ""
        self.sent = 0
        """Resources sent and removals, over the life of the stream."""

    @property
    def awaiting(self) -> int:
        """How many resources are sent and not answered, or 1 for a response without any."""
        return sum(max(1, len(flight)) for flight in self._flights.values())

    # In

    def touch(self, ids: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(ids))
        self._wake()

    def receive(self, request: DeltaDiscoveryRequest) -> list[str]:
        """Take a request in; answers the ids of the bundles that it is about."""
        if request.node.id:
            self.node = request.node.id
        if request.type_url not in TYPES:
            return []  # Envoy asks for nothing else in our configuration, and is not to wait for more
        touched = self._settle(request)
        if request.type_url not in self._subscribed:
            touched += self._subscribe(request)
        if request.type_url == ENDPOINTS:
            touched += self._name_endpoints(request)
        touched = list(dict.fromkeys(touched))
        self._dirty.update(dict.fromkeys(touched))
        return touched

    def _subscribe(self, request: DeltaDiscoveryRequest) -> list[str]:
        """The first request of a type. It tells what Envoy holds already, from an earlier stream or another server."""
        self._subscribed.add(request.type_url)
        self._unanswered.add(request.type_url)
        for name, version in request.initial_resource_versions.items():
            self._record((request.type_url, name)).held = version
        return [*self._store, *(owner(name) for name in request.initial_resource_versions)]

    def _name_endpoints(self, request: DeltaDiscoveryRequest) -> list[str]:
        for name in request.resource_names_subscribe:
            self._endpoint_names.add(name)
            if name not in request.initial_resource_versions:
                # Asked for (again): it must be sent, whatever was sent before.
                self._forget((ENDPOINTS, name))
        for name in request.resource_names_unsubscribe:
            self._endpoint_names.discard(name)
            self._forget((ENDPOINTS, name))
        return [owner(n) for n in (*request.resource_names_subscribe, *request.resource_names_unsubscribe)]

    def _settle(self, request: DeltaDiscoveryRequest) -> list[str]:
        """An acknowledgement or a refusal, if it has a nonce: of the response with that nonce."""
        nonce = int(request.response_nonce or 0)
        flight = self._flights.pop(nonce, [])
        refusal = request.error_detail.message[:_REASON] if request.HasField("error_detail") else None
        for key, version in flight:
            record = self._records.get(key)
            if record is None or nonce <= record.since:
                continue  # forgotten meanwhile
            latest = record.nonce == nonce
            if latest:
                record.under_way = None
            if refusal is None:
                record.held = version
                record.alone = record.alone and not latest
                if version == _GONE and latest:
                    self._forget(key)
            elif len(flight) > 1:
                record.held = _UNKNOWN
                record.alone = record.alone or latest
            elif latest:
                record.refused, record.reason = version, refusal
        return [owner(name) for (_, name), _ in flight]

    # Out

    def responses(self) -> list[DeltaDiscoveryResponse]:
        """What is to be sent now, in this order. Empty until an acknowledgement or a change moves something."""
        outbox = _Outbox()
        first = SCOPE not in self._subscribed or SCOPE in self._unanswered
        for bundle_id in self._dirty:
            self._advance(bundle_id, outbox, with_scopes=not first)
        self._dirty.clear()
        if first and not self._scopes_held_back():
            for bundle_id in dict.fromkeys((*self._store, *self._keys)):
                self._advance(bundle_id, outbox, with_scopes=True)
        responses = []
        for type_url in TYPES:
            resources, removals = outbox.resources[type_url], outbox.removals[type_url]
            # The first request of a type is always answered, if with nothing: a starting Envoy waits for that, and one
            # that comes over from the snapshot server takes it as the sign that we are there.
            owed = type_url in self._unanswered and not (type_url == SCOPE and self._scopes_held_back())
            if resources or removals or owed:
                self._unanswered.discard(type_url)
                responses.append(self._fly(type_url, resources, removals))
        for (type_url, name), resource in outbox.alone:
            responses.append(self._fly(type_url, [resource] if resource else [], [] if resource else [name]))
        return responses

    def _fly(self, type_url: str, resources: list[Resource], removals: list[str]) -> DeltaDiscoveryResponse:
        self._nonce += 1
        response = DeltaDiscoveryResponse(type_url=type_url, nonce=str(self._nonce), removed_resources=removals)
        flight = [((type_url, name), _GONE) for name in removals]
        for resource in resources:
            entry = response.resources.add(name=resource.name, version=resource.version)
            entry.resource.type_url = type_url
            entry.resource.value = resource.body
            flight.append(((type_url, resource.name), resource.version))
        for key, _ in flight:
            self._records[key].nonce = self._nonce
        self._flights[self._nonce] = flight
        self.sent += len(flight)
        return response

    def _scopes_held_back(self) -> bool:
        """A starting Envoy opens its port with the first scopes it gets: it gets all of them at once, or the first
        callers would find half of the deployments missing."""
        return SCOPE not in self._subscribed or (SCOPE in self._unanswered and bool(self._cold))

    def _advance(self, bundle_id: str, outbox: _Outbox, *, with_scopes: bool) -> None:
        wanted = self._wanted(bundle_id)
        warming = [resource for resource in wanted.values() if resource.type_url in _WARMING]
        warm = self._bring(warming, outbox)
        if warm or any(self._refuses(resource) for resource in warming):
            self._cold.discard(bundle_id)  # what it refuses will never be warm, and is no reason to wait
        else:
            self._cold.add(bundle_id)
        if not warm:
            return
        if not with_scopes:
            return
        scopes_there = self._bring([r for r in wanted.values() if r.type_url == SCOPE], outbox)
        scopes_gone = self._drop(SCOPE, bundle_id, outbox)
        if scopes_there and scopes_gone:
            self._drop(CLUSTER, bundle_id, outbox)

    def _wanted(self, bundle_id: str) -> Mapping[Key, Resource]:
        bundle = self._store.get(bundle_id)
        return bundle.resources if bundle else {}

    def _bring(self, resources: list[Resource], outbox: _Outbox) -> bool:
        """Send what differs; answers whether Envoy holds all of it."""
        held = True
        for resource in resources:
            key = (resource.type_url, resource.name)
            record = self._record(key)
            held = held and record.settled_at(resource.version)
            if resource.version in (record.heading, record.refused) or not self._may_send(key):
                continue
            if resource.type_url == CLUSTER and record.held != _GONE:
                # A changed cluster warms anew, and does so only with its endpoints sent again.
                self._records.pop((ENDPOINTS, resource.name), None)
                held = False
            self._send(key, resource, outbox)
        return held

    def _refuses(self, resource: Resource) -> bool:
        return self._record((resource.type_url, resource.name)).refused == resource.version

    def _drop(self, type_url: str, bundle_id: str, outbox: _Outbox) -> bool:
        """Remove what is wanted no more; answers whether Envoy holds none of it."""
        extra = self._extra(type_url, bundle_id)
        for key in extra:
            record = self._records[key]
            if _GONE not in (record.heading, record.refused):
                self._send(key, None, outbox)
        return not extra

    def _extra(self, type_url: str, bundle_id: str) -> list[Key]:
        """What Envoy holds, or is being sent or rid of, and shall not hold."""
        wanted = self._wanted(bundle_id)
        unwanted = [key for key in self._keys.get(bundle_id, ()) if key[0] == type_url and key not in wanted]
        return [key for key in unwanted if not self._records[key].settled_at(_GONE)]

    def _send(self, key: Key, resource: Resource | None, outbox: _Outbox) -> None:
        record = self._records[key]
        record.under_way = resource.version if resource else _GONE
        if record.alone:
            outbox.alone.append((key, resource))
        elif resource:
            outbox.resources[key[0]].append(resource)
        else:
            outbox.removals[key[0]].append(key[1])

    def _may_send(self, key: Key) -> bool:
        type_url, name = key
        return name in self._endpoint_names if type_url == ENDPOINTS else type_url in self._subscribed

    # How far

    @property
    def caught_up(self) -> bool:
        """Each bundle counts once, as it is found: a fleet in which something always changes would never be done."""
        if not self._subscribed.issuperset((CLUSTER, SCOPE)):
            return False
        behind = {*self._store, *self._keys} if self._behind is None else self._behind
        self._behind = {bundle_id for bundle_id in behind if self.status(bundle_id).phase is Phase.PENDING}
        return not self._behind

    def status(self, bundle_id: str) -> Status:
        if not self._subscribed.issuperset((CLUSTER, SCOPE)):
            return Status(Phase.PENDING)  # it has not said yet what it holds: perhaps what is to go
        wanted = self._wanted(bundle_id)
        due = {key: resource.version for key, resource in wanted.items()}
        due |= dict.fromkeys((*self._extra(SCOPE, bundle_id), *self._extra(CLUSTER, bundle_id)), _GONE)
        records = {key: self._records.get(key) or _Record() for key in due}
        if refused := {key: version for key, version in due.items() if records[key].refused == version}:
            return Status(Phase.REJECTED, records[next(iter(refused))].reason, frozenset(refused.values()))
        settled = all(records[key].settled_at(version) for key, version in due.items())
        return Status(Phase.ENFORCED if settled else Phase.PENDING)

    # Records

    def _record(self, key: Key) -> _Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(since=self._nonce)
            self._keys[owner(key[1])].add(key)
        return record

    def _forget(self, key: Key) -> None:
        self._records.pop(key, None)
        keys = self._keys.get(owner(key[1]))
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._keys[owner(key[1])]
