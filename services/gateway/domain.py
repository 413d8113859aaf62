"""What shall be routed, from what the rows say. Pure: no I/O, and the time is an argument.

Everything about one deployment *id* is decided together, since Envoy knows ids only: after a deletion and a new
creation two deployments share it for a while, the one that lives and the one whose replicas must not be ended before
Envoy has let go of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.gateway.envoy.model import Access, DeploymentRoutes, Endpoint, EndpointClient, InvalidRoutes, Overlap
from services.gateway.envoy.publisher import Enforced, Outcome, Pending, Rejected

Mark = tuple[UUID, int, int, bool, int]
"""Changes whenever anything does that routes are made of: uid, generation, endpoints generation, deleted, clients."""


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    id: str
    version: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ClientRow:
    name: str
    sha1: str
    expires_at: datetime | None
    previous_sha1: str | None = None
    previous_until: datetime | None = None
    mark: str | None = None

    def at(self, now: datetime) -> EndpointClient | None:
        """Whom Envoy is to let in then."""
        if self.expires_at is not None and self.expires_at <= now:
            return None
        overlap = None
        if self.previous_sha1 and self.mark and self.previous_until and self.previous_until > now:
            overlap = Overlap(self.previous_sha1, self.mark)
        return EndpointClient(name=self.name, sha1=self.sha1, overlap=overlap)

    def ends(self, now: datetime) -> Iterable[datetime]:
        """When one of its tokens will cease to be let in."""
        return (at for at in (self.expires_at, self.previous_until) if at is not None and at > now)


@dataclass(frozen=True, slots=True)
class Record:
    """What the Envoys of one gateway, or of all, have acknowledged of one deployment. `clients` is the generation of
    its clients, at which only another gateway looks."""

    generation: int = 0
    endpoints_generation: int = 0
    weights: Mapping[int, int] = field(default_factory=dict)
    rejected: str | None = None
    clients: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """What the gateway reads of a deployment that is live, or deleted and not cleared away yet. `recorded` is its own
    word on it, `said` that of each gateway."""

    uid: UUID
    id: str
    deleted: bool
    generation: int
    endpoints_generation: int
    stopped: bool
    access: Access
    versions: tuple[int, ...]
    weights: Mapping[int, int]
    replicas: tuple[ReplicaRow, ...]
    clients: tuple[ClientRow, ...]
    recorded: Record | None
    mark: Mark
    said: Mapping[str, Record] = field(default_factory=dict)
    clients_generation: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be for one id. `records` is what becomes true of each deployment once our Envoys have acknowledged
    `routes`; `recorded` what we have said of it so far. `invalid`: why no routes can be made of the rows."""

    id: str
    routes: DeploymentRoutes | None
    invalid: str | None
    live: UUID | None
    records: Mapping[UUID, Record]
    recorded: Mapping[UUID, Record | None]
    next_expiry: datetime | None
    marks: frozenset[Mark]

    @property
    def unrecorded(self) -> dict[UUID, Record]:
        return {uid: record for uid, record in self.records.items() if self.recorded[uid] != record}

    def due(self, outcome: Outcome) -> Mapping[UUID, Record]:
        """What is to be written when this has come of it."""
        match outcome:
            case Enforced():
                return self.unrecorded
            case Rejected(reason) if self.live is not None:
                # The last good state stays in force, also that of a deployment that had the id before: nothing is let
                # go of.
                before = self.recorded[self.live] or Record()
                refused = replace(before, rejected=reason)
                return {} if refused == before else {self.live: refused}
            case _:
                return {}  # it is still to be decided

    def differs_in_clients_only(self, due: Mapping[UUID, Record]) -> bool:
        return all(replace(self.recorded[uid] or Record(), clients=each.clients) == each for uid, each in due.items())

    def with_recorded(self, written: Mapping[UUID, Record]) -> "Plan":
        known = {uid: record for uid, record in written.items() if uid in self.records}
        return replace(self, recorded={**self.recorded, **known})


def make_plan(deployment: str, rows: Sequence[DeploymentRow], *, now: datetime) -> Plan:
    """Decide about everything that shares the id `deployment`."""
    live = next((row for row in rows if not row.deleted), None)
    routes, invalid = None, None
    records = {row.uid: _record(row) for row in rows}
    if live is not None:
        try:
            routes = _routes(live, now=now)
        except InvalidRoutes as error:
            invalid = str(error)
    expiries = [at for client in live.clients for at in client.ends(now)] if live else []
    return Plan(
        id=deployment,
        routes=routes,
        invalid=invalid,
        live=live.uid if live else None,
        records=records,
        recorded={row.uid: row.recorded for row in rows},
        next_expiry=min(expiries, default=None),
        marks=frozenset(row.mark for row in rows),
    )


def _routes(row: DeploymentRow, *, now: datetime) -> DeploymentRoutes:
    endpoints: dict[int, list[Endpoint]] = {version: [] for version in row.versions}
    for replica in sorted(row.replicas, key=lambda replica: replica.id):
        # One of a version that has just been removed: nothing routes to it, so it needs no place.
        if replica.version in endpoints:
            endpoints[replica.version].append(Endpoint(replica=replica.id, host=replica.host, port=replica.port))
    return DeploymentRoutes(
        id=row.id,
        generation=row.generation,
        access=row.access,
        # Those of a public deployment wait in their rows: private again, it knows whoever was not revoked meanwhile.
        clients=tuple(
            let_in
            for client in sorted(row.clients, key=lambda client: client.name)
            if row.access == "private" and (let_in := client.at(now))
        ),
        versions={version: tuple(of_version) for version, of_version in endpoints.items()},
        weights=effective_weights(row.weights, routable={v for v, e in endpoints.items() if e}),
        stopped=row.stopped,
    )


def _record(row: DeploymentRow) -> Record:
    routable = {replica.version for replica in row.replicas}
    return Record(
        generation=row.generation,
        endpoints_generation=row.endpoints_generation,
        weights={} if row.deleted else effective_weights(row.weights, routable=routable),
        clients=row.clients_generation,
    )


def agreed(before: Record, said: Mapping[str, Record], *, gateways: Collection[str]) -> Record:
    """What the Envoys of all these gateways have acknowledged. A generation that they had agreed on stands: a gateway
    whose first Envoy has just come says less, and takes nothing back."""
    words = [said.get(gateway) or Record() for gateway in gateways]
    if not words:
        return before
    slowest = min(words, key=lambda word: (word.generation, word.endpoints_generation))
    generation = min(word.generation for word in words)
    endpoints_generation = min(word.endpoints_generation for word in words)
    rejected = next((word.rejected for word in words if word.rejected is not None), None)
    if generation < before.generation or endpoints_generation < before.endpoints_generation:
        return replace(before, rejected=rejected)
    return Record(generation, endpoints_generation, slowest.weights, rejected)


def elsewhere(row: DeploymentRow, *, gateways: Collection[str]) -> Outcome:
    """Whether the Envoys of these other gateways follow what the row says now, by their own words."""
    wanted = _record(row)
    for gateway in sorted(gateways):
        said = row.said.get(gateway) or Record()
        if said.rejected is not None:
            return Rejected(said.rejected)
        reached = (said.generation, said.endpoints_generation, said.clients)
        due = (wanted.generation, wanted.endpoints_generation, wanted.clients)
        if any(have < want for have, want in zip(reached, due, strict=True)):
            return Pending(f"The Envoys of gateway {gateway} have not all acknowledged it yet")
    return Enforced(None)


def effective_weights(wanted: Mapping[int, int], *, routable: Collection[int]) -> dict[int, int]:
    """The weights that Envoy is given: a version with no routable replica gets nothing as long as another one with
    weight has some, and the shares of those are scaled up to 100. If none has, what was wanted stays."""
    served = {version: weight for version, weight in wanted.items() if weight and version in routable}
    total = sum(served.values())
    if not served or total == sum(wanted.values()):
        return dict(wanted)
    scaled = {version: weight * 100 // total for version, weight in served.items()}
    # What rounding down has left goes where it was cut off most (largest remainder), so that the sum is 100.
    by_remainder = sorted(served, key=lambda version: (-(served[version] * 100 % total), version))
    for version in by_remainder[: 100 - sum(scaled.values())]:
        scaled[version] += 1
    return {version: scaled.get(version, 0) for version in wanted}


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Whether the data plane follows a change, for an answer; None: it was not waited for."""

    enforced: bool | None
    reason: str | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "Enforcement":
        match outcome:
            case Enforced():
                return cls(True)
            case Rejected(reason):
                return cls(False, f"Envoy refuses it and keeps the last good state: {reason}")
            case Pending(reason):
                return cls(False, reason)

    @classmethod
    def recorded(
        cls, record: Record | None, *, generation: int, wanted: Mapping[int, int], missing: Collection[str] = ()
    ) -> "Enforcement":
        """Whether Envoy has acknowledged this generation, with the weights as wanted; `missing` ones may be why not."""
        if record is None:
            return cls(False, "Envoy has not acknowledged anything of this deployment yet.")
        if record.rejected is not None:
            return cls(False, f"Envoy refuses it and keeps the last good state: {record.rejected}")
        if record.generation < generation:
            names = f" Out of reach: {', '.join(sorted(missing))}." if missing else ""
            return cls(False, f"Envoy has not acknowledged the latest change yet.{names}")
        if record.weights != wanted:
            return cls(False, "A version with weight has no ready replica; the others take its share.")
        return cls(True)


def parse_record(stored: Mapping[str, Any]) -> Record:
    """As JSON has it."""
    return Record(**{**stored, "weights": parse_weights(stored["weights"])})


def stored_record(record: Record) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(record), "weights": {str(version): weight for version, weight in record.weights.items()}}


def parse_weights(stored: Mapping[str, int] | None) -> dict[int, int]:
    """As JSON has them, keyed by text."""
    return {int(version): weight for version, weight in (stored or {}).items()}


def access_of(spec_access: str | None) -> Access:
    """Anything but an explicit `public` is private."""
    return "public" if spec_access == "public" else "private"
