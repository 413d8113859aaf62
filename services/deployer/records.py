"""What the reconciler loads and records: its columns of `deployments`, the replicas, the steps, the events.

One transaction each way, with no I/O but the database's within. The recording one checks the lease's fence, so that a
deployer that was overtaken writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.deployer.platforms import Replica as Observed
from services.deployer.status import Status, failure_of
from services.deployer.steps import Step
from shared import outbox
from shared.database import Sessions
from shared.events.deployer import DEPLOYMENT_STATUS, REPLICAS_CHANGED
from shared.reconcile import Fence
from shared.schema import Deployment, DeploymentStep, Replica, Route

__all__ = ["Loaded", "Records"]


@dataclass(frozen=True)
class Loaded:
    """The rows of one deployment."""

    row: Deployment
    route: Route | None
    replicas: Mapping[str, Replica]

    @property
    def acknowledged(self) -> int:
        return self.route.endpoints_generation if self.route else 0

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
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def load(self, uid: UUID) -> Loaded | None:
        statement = select(Deployment, Route).outerjoin(Route, Route.uid == Deployment.uid)
        async with self._sessions() as session:
            found = (await session.execute(statement.where(Deployment.uid == uid))).one_or_none()
            replicas = (await session.execute(select(Replica).where(Replica.uid == uid))).scalars().all()
        return Loaded(*found, {replica.id: replica for replica in replicas}) if found else None

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
        row = loaded.row
        moved = loaded.moved(observed, routable)
        generation = row.endpoints_generation + 1 if moved else row.endpoints_generation
        changes = _changes(row, status, endpoints_generation=generation)
        values = [
            _replica_values(
                row.uid,
                each,
                routable=each.id in routable,
                endpoints_generation=generation if each.id in moved else loaded.since(each.id),
            )
            for each in observed
        ]
        differing = [each for each in values if _differs(loaded.replicas.get(each["id"]), each)]
        gone = loaded.replicas.keys() - {replica.id for replica in observed}
        if changes or differing or gone or steps:
            async with self._sessions.begin() as session:
                await fence.check(session)
                if changes:
                    await self._update(session, row, changes)
                if differing:
                    statement = upsert(Replica).values(differing)
                    excluded = {name: statement.excluded[name] for name in differing[0] if name != "id"}
                    await session.execute(statement.on_conflict_do_update(index_elements=[Replica.id], set_=excluded))
                if gone:
                    await session.execute(delete(Replica).where(Replica.id.in_(gone)))
                await self._note(session, row.uid, steps)
                if moved:
                    await outbox.append(session, REPLICAS_CHANGED, str(row.uid), **_about(row))

    async def record_status(
        self, loaded: Loaded, fence: Fence, *, status: Status, done: bool, steps: Sequence[Step] = ()
    ) -> None:
        """What is known of the replicas stands. Unless `done`, this generation has not been dealt with either."""
        changes = _changes(loaded.row, status, endpoints_generation=loaded.row.endpoints_generation)
        if not done:
            changes.pop("observed_generation", None)
        if not changes:
            return
        async with self._sessions.begin() as session:
            await fence.check(session)
            await self._update(session, loaded.row, changes)
            await self._note(session, loaded.row.uid, steps)

    async def unroute(self, loaded: Loaded, fence: Fence) -> None:
        """Take all of a deleted deployment's replicas out of the data plane."""
        row, generation = loaded.row, loaded.row.endpoints_generation + 1
        async with self._sessions.begin() as session:
            await fence.check(session)
            await session.execute(
                update(Deployment).where(Deployment.uid == row.uid).values(endpoints_generation=generation)
            )
            await session.execute(
                update(Replica)
                .where(Replica.uid == row.uid, Replica.routable)
                .values(routable=False, endpoints_generation=generation)
            )
            await outbox.append(session, REPLICAS_CHANGED, str(row.uid), **_about(row))

    async def purge(self, loaded: Loaded, fence: Fence) -> None:
        """Nothing of a deleted deployment is left."""
        row = loaded.row
        async with self._sessions.begin() as session:
            await fence.check(session)
            await session.execute(delete(Replica).where(Replica.uid == row.uid))
            changes = {"observed_generation": row.generation, "settled": True, "phase": "Stopped"}
            await self._update(session, row, {**changes, "purged_at": func.clock_timestamp()})
            await self._note(session, row.uid, [Step("deleted", "Everything it had made is gone.")])

    async def unsettled(self) -> list[UUID]:
        """What may need work; an index holds these alone."""
        needs: ColumnElement[bool] = or_(
            Deployment.observed_generation != Deployment.generation, Deployment.settled.is_(False)
        )
        async with self._sessions() as session:
            return list((await session.execute(select(Deployment.uid).where(needs))).scalars())

    async def noted(self) -> dict[UUID, dict[str, tuple[str, int | None]]]:
        """The phase and port of every replica as it was seen last, by deployment."""
        found: dict[UUID, dict[str, tuple[str, int | None]]] = {}
        statement = select(Replica.uid, Replica.id, Replica.phase, Replica.port)
        async with self._sessions() as session:
            for uid, name, phase, port in await session.execute(statement):
                found.setdefault(uid, {})[name] = (phase, port)
        return found

    @staticmethod
    async def _update(session: AsyncSession, row: Deployment, changes: Mapping[str, Any]) -> None:
        values = {**changes, "status_at": func.clock_timestamp()}
        await session.execute(update(Deployment).where(Deployment.uid == row.uid).values(values))
        await outbox.append(session, DEPLOYMENT_STATUS, str(row.uid), **_about(row))

    @staticmethod
    async def _note(session: AsyncSession, uid: UUID, steps: Sequence[Step]) -> None:
        if steps:
            values = [{"uid": uid, "step": step.step, "message": step.message} for step in steps]
            await session.execute(insert(DeploymentStep), values)


def _about(row: Deployment) -> dict[str, Any]:
    return {"id": row.id, "group": row.group_id, "generation": row.generation}


def _changes(row: Deployment, status: Status, *, endpoints_generation: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "phase": status.phase,
        "observed_generation": row.generation,
        "settled": status.settled,
        "conditions": status.conditions,
        "version_status": status.versions,
        "endpoints_generation": endpoints_generation,
        "progressing_since": status.progressing_since,
    }
    return {name: value for name, value in wanted.items() if getattr(row, name) != value}


def _replica_values(uid: UUID, replica: Observed, *, routable: bool, endpoints_generation: int) -> dict[str, Any]:
    return {
        "id": replica.id,
        "uid": uid,
        "version": replica.version,
        "template": replica.template_digest,
        "phase": str(replica.phase),
        "routable": routable,
        "endpoints_generation": endpoints_generation,
        "host": replica.host or None,
        "port": replica.port or None,
        "restarts": replica.restarts,
        "started_at": replica.started_at,
        "failure": failure_of(replica),
    }


def _differs(known: Replica | None, values: Mapping[str, Any]) -> bool:
    return known is None or any(getattr(known, name) != value for name, value in values.items())
