"""What the reconciler loads and records: its columns of `deployments`, the replicas, the steps, the events.

One statement each way, since both run with every step of every deployment. The recording one holds the lease's fence,
so that a deployer that was overtaken writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.deployer.platforms import Replica as Observed
from services.deployer.status import Status, failure_of
from services.deployer.steps import Step
from shared import outbox
from shared.database import Direct
from shared.events.deployer import DEPLOYMENT_STATUS, REPLICAS_CHANGED
from shared.reconcile import FENCED, Fence, LeaseLost

__all__ = ["KnownReplica", "Loaded", "Records"]

_REPLICA = """id text, version int, template text, phase text, routable boolean, endpoints_generation bigint, host text,
    port int, restarts int, started_at timestamptz, failure jsonb"""
_COLUMNS = [column.split()[0] for column in _REPLICA.split(",")]

_LOAD = f"""
    SELECT d.uid, d.id, d.group_id, d.spec, d.stopped, d.generation, d.revision, d.message, d.updated_by,
        d.deleted_at IS NOT NULL AS deleted, d.purged_at IS NOT NULL AS purged,
        d.phase, d.observed_generation, d.settled, d.conditions, d.version_status, d.endpoints_generation,
        d.progressing_since,
        o.generation AS routed_generation, o.endpoints_generation AS acknowledged, o.rejected,
        (SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]')
         FROM (SELECT {", ".join(_COLUMNS)} FROM replicas WHERE uid = d.uid) AS r)
            AS replicas
    FROM deployments d LEFT JOIN routes o ON o.uid = d.uid
    WHERE d.uid = $1
"""  # noqa: S608  # constants only

# $1, $2: the fence, $3: the uid, $4: the new state or null, $5: replicas, $6: ids of those that are gone, $7: steps,
# $8: events.
_WRITE = f"""
    WITH {FENCED}, state AS (
        UPDATE deployments d
        SET phase = s.phase, observed_generation = s.observed_generation, settled = s.settled,
            conditions = s.conditions, version_status = s.version_status,
            endpoints_generation = s.endpoints_generation, progressing_since = s.progressing_since,
            purged_at = CASE WHEN s.purged THEN clock_timestamp() ELSE d.purged_at END, status_at = clock_timestamp()
        FROM fence, jsonb_to_record($4::jsonb) AS s (
            phase text, observed_generation bigint, settled boolean, conditions jsonb, version_status jsonb,
            endpoints_generation bigint, progressing_since timestamptz, purged boolean
        )
        WHERE d.uid = $3 AND $4 IS NOT NULL
    ), present AS (
        INSERT INTO replicas (uid, {", ".join(_COLUMNS)})
        SELECT $3::uuid, {", ".join(_COLUMNS)} FROM fence, jsonb_to_recordset($5) AS r ({_REPLICA})
        ON CONFLICT (id) DO UPDATE SET uid = excluded.uid, {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
    ), gone AS (
        DELETE FROM replicas USING fence WHERE uid = $3 AND id = ANY ($6::text[])
    ), noted AS (
        INSERT INTO deployment_steps (uid, step, message)
        SELECT $3::uuid, step, message
        FROM fence, ROWS FROM (jsonb_to_recordset($7) AS (step text, message text))
            WITH ORDINALITY AS s (step, message, position)
        ORDER BY position
    ), {outbox.appending("$8", beside="fence")}
    SELECT count(*) AS held, (SELECT * FROM told) FROM fence
"""  # noqa: S608  # constants only

# What may need work; an index holds these alone.
_UNSETTLED = "SELECT uid FROM deployments WHERE observed_generation <> generation OR NOT settled"
_NOTED = "SELECT uid, id, phase, port FROM replicas"


@dataclass(frozen=True)
class KnownReplica:
    """A replica as it was recorded last."""

    id: str
    version: int
    template: str
    phase: str
    routable: bool
    endpoints_generation: int
    host: str | None
    port: int | None
    restarts: int
    started_at: datetime | None
    failure: dict[str, Any] | None


@dataclass(frozen=True)
class State:
    """The reconciler's columns of a deployment."""

    phase: str
    observed_generation: int
    settled: bool
    conditions: list[dict[str, Any]]
    version_status: list[dict[str, Any]]
    endpoints_generation: int
    progressing_since: datetime | None


@dataclass(frozen=True)
class Loaded:
    """One deployment: what is wanted, what was recorded last, and what Envoy has acknowledged (0: nothing)."""

    uid: UUID
    id: str
    group: str
    spec: dict[str, Any]
    stopped: bool
    generation: int
    revision: int
    message: str
    updated_by: str
    deleted: bool
    purged: bool
    state: State
    routed_generation: int
    acknowledged: int
    rejected: str | None
    replicas: Mapping[str, KnownReplica]

    @property
    def routable(self) -> frozenset[str]:
        return frozenset(replica.id for replica in self.replicas.values() if replica.routable)

    def moved(self, observed: Sequence[Observed], routable: Collection[str]) -> frozenset[str]:
        """The replicas that Envoy must learn of: they are routable now, or not any more, or elsewhere."""
        before = {r.id: (r.host, r.port) for r in self.replicas.values() if r.routable}
        after = {r.id: (r.host, r.port) for r in observed if r.id in routable}
        return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))

    def since(self, replica: str) -> int:
        """The endpoints generation in which it became routable, or ceased to be."""
        known = self.replicas.get(replica)
        return known.endpoints_generation if known else 0

    @property
    def keep(self) -> frozenset[str]:
        """The replicas that Envoy may still send requests to."""
        return self.routable | {r.id for r in self.replicas.values() if r.endpoints_generation > self.acknowledged}

    @property
    def serving(self) -> frozenset[str]:
        """The replicas that Envoy has acknowledged to send requests to."""
        return self.routable - {r.id for r in self.replicas.values() if r.endpoints_generation > self.acknowledged}


class Records:
    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    async def load(self, uid: UUID) -> Loaded | None:
        row = await self._direct.first(_LOAD, uid)
        if row is None:
            return None
        return Loaded(
            uid=uid,
            id=row.id,
            group=row.group_id,
            spec=row.spec,
            stopped=row.stopped,
            generation=row.generation,
            revision=row.revision,
            message=row.message,
            updated_by=row.updated_by,
            deleted=row.deleted,
            purged=row.purged,
            state=State(
                phase=row.phase,
                observed_generation=row.observed_generation,
                settled=row.settled,
                conditions=row.conditions,
                version_status=row.version_status,
                endpoints_generation=row.endpoints_generation,
                progressing_since=row.progressing_since,
            ),
            routed_generation=row.routed_generation or 0,
            acknowledged=row.acknowledged or 0,
            rejected=row.rejected,
            replicas={each["id"]: _read(each) for each in row.replicas},
        )

    async def record(
        self,
        loaded: Loaded,
        fence: Fence,
        *,
        observed: Sequence[Observed],
        routable: frozenset[str],
        status: Status,
        steps: Sequence[Step],
    ) -> None:
        """Write what differs from what was loaded."""
        moved = loaded.moved(observed, routable)
        generation = loaded.state.endpoints_generation + bool(moved)
        now = [
            _known(
                each,
                routable=each.id in routable,
                endpoints_generation=generation if each.id in moved else loaded.since(each.id),
            )
            for each in observed
        ]
        await self._write(
            loaded,
            fence,
            state=_state(loaded, status, endpoints_generation=generation),
            replicas=[each for each in now if loaded.replicas.get(each.id) != each],
            gone=loaded.replicas.keys() - {replica.id for replica in observed},
            steps=steps,
            moved=bool(moved),
        )

    async def record_status(
        self, loaded: Loaded, fence: Fence, *, status: Status, done: bool, steps: Sequence[Step] = ()
    ) -> None:
        """What is known of the replicas stands. Unless `done`, this generation has not been dealt with either."""
        state = _state(loaded, status, endpoints_generation=loaded.state.endpoints_generation)
        if not done:
            state = replace(state, observed_generation=loaded.state.observed_generation)
        if state != loaded.state:
            await self._write(loaded, fence, state=state, steps=steps)

    async def unroute(self, loaded: Loaded, fence: Fence) -> None:
        """Take all of a deleted deployment's replicas out of the data plane."""
        generation = loaded.state.endpoints_generation + 1
        await self._write(
            loaded,
            fence,
            state=replace(loaded.state, endpoints_generation=generation),
            replicas=[
                replace(each, routable=False, endpoints_generation=generation)
                for each in loaded.replicas.values()
                if each.routable
            ],
            moved=True,
        )

    async def purge(self, loaded: Loaded, fence: Fence) -> None:
        """Nothing of a deleted deployment is left."""
        await self._write(
            loaded,
            fence,
            state=replace(loaded.state, observed_generation=loaded.generation, settled=True, phase="Stopped"),
            purged=True,
            gone=loaded.replicas.keys(),
            steps=[Step("deleted", "Everything it had made is gone.")],
        )

    async def unsettled(self) -> list[UUID]:
        """What may need work."""
        return [row.uid for row in await self._direct.fetch(_UNSETTLED)]

    async def noted(self) -> dict[UUID, dict[str, tuple[str, int | None]]]:
        """The phase and port of every replica as it was seen last, by deployment."""
        found: dict[UUID, dict[str, tuple[str, int | None]]] = {}
        for row in await self._direct.fetch(_NOTED):
            found.setdefault(row.uid, {})[row.id] = (row.phase, row.port)
        return found

    async def _write(
        self,
        loaded: Loaded,
        fence: Fence,
        *,
        state: State,
        purged: bool = False,
        replicas: Sequence[KnownReplica] = (),
        gone: Collection[str] = (),
        steps: Sequence[Step] = (),
        moved: bool = False,
    ) -> None:
        """Nothing if there is nothing to write. Raises LeaseLost."""
        changed = state != loaded.state or purged
        if not (changed or replicas or gone or steps):
            return
        told = [DEPLOYMENT_STATUS] * changed + [REPLICAS_CHANGED] * moved
        about = {"id": loaded.id, "group": loaded.group, "generation": loaded.generation}
        [written] = await self._direct.fetch(
            _WRITE,
            fence.name,
            fence.token,
            loaded.uid,
            vars(state) | {"purged": purged} if changed else None,
            [vars(each) for each in replicas],
            list(gone),
            [vars(each) for each in steps],
            [outbox.entry(contract, str(loaded.uid), **about) for contract in told],
        )
        if not written.held:
            raise LeaseLost(fence.name)


def _read(row: dict[str, Any]) -> KnownReplica:
    started_at = row["started_at"]
    return KnownReplica(**row | {"started_at": started_at and datetime.fromisoformat(started_at)})


def _state(loaded: Loaded, status: Status, *, endpoints_generation: int) -> State:
    return State(
        phase=status.phase,
        observed_generation=loaded.generation,
        settled=status.settled,
        conditions=status.conditions,
        version_status=status.versions,
        endpoints_generation=endpoints_generation,
        progressing_since=status.progressing_since,
    )


def _known(replica: Observed, *, routable: bool, endpoints_generation: int) -> KnownReplica:
    return KnownReplica(
        id=replica.id,
        version=replica.version,
        template=replica.template_digest,
        phase=str(replica.phase),
        routable=routable,
        endpoints_generation=endpoints_generation,
        host=replica.host or None,
        port=replica.port or None,
        restarts=replica.restarts,
        started_at=replica.started_at,
        failure=failure_of(replica),
    )
