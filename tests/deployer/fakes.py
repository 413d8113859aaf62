"""A platform in memory that a test controls, and a stand-in for the gateway, which is another process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from services.deployer.platforms import (
    Capabilities,
    Cause,
    Evidence,
    Failure,
    Phase,
    PlatformError,
    Replica,
    ReplicaNotFound,
    Template,
    Workload,
)
from services.deployer.platforms.rollout import Candidate, plan
from shared import outbox
from shared.database import Hints, Sessions
from shared.events.gateway import ROUTE_ENFORCED
from shared.schema import Deployment, Route
from shared.schema import Replica as ReplicaRow


@dataclass
class FakeReplica:
    id: str
    workload: Workload
    phase: Phase = Phase.STARTING
    restarts: int = 0
    failure: Failure | None = None
    proven: bool = False
    port: int = 20000
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class FakePlatform:
    """Decides like the local platform; what becomes of a replica is the test's say (`outcome`)."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(containers=True)
        self.trouble: str | None = None
        self.outcome: Callable[[Template], Failure | bool] = lambda _: True
        self.replicas: dict[UUID, dict[str, FakeReplica]] = {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.observed = 0
        self.fail_at: dict[str, BaseException] = {}
        self.forbidden: Callable[[str], bool] = lambda _: False
        self.lines: dict[str, list[str]] = {}
        self._watchers: list[asyncio.Queue[UUID]] = []
        self._number = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    # The protocol

    async def known(self) -> None:
        return None

    async def apply(self, workload: Workload) -> None:
        self._stage("apply")
        there = self.replicas.setdefault(workload.uid, {})
        mine = [r for r in there.values() if r.workload.version == workload.version]
        steps = plan(
            wanted=workload.replicas,
            digest=workload.template.digest,
            replicas=[self._candidate(replica) for replica in mine],
            keep=workload.keep,
            serving=workload.serving,
            now=0.0,
        )
        for name in steps.drain:
            there[name].phase = Phase.DRAINING
        for name in steps.end:
            self._end(there[name])
        for _ in range(steps.start):
            self._number += 1
            replica = FakeReplica(f"{workload.id}-{workload.version}-{self._number}", workload)
            there[replica.id] = replica
            self.started.append(replica.id)
            self._run(replica)
        if steps.drain or steps.end or steps.start:
            self._changed(workload.uid)
        if not there:
            del self.replicas[workload.uid]
        self._stage("applied")

    async def observe(self, uid: UUID) -> list[Replica]:
        self._stage("observe")
        self.observed += 1
        return [
            Replica(
                id=replica.id,
                version=replica.workload.version,
                template_digest=replica.workload.template.digest,
                phase=replica.phase,
                host="127.0.0.1",
                port=replica.port,
                restarts=replica.restarts,
                started_at=replica.started_at,
                failure=replica.failure,
            )
            for replica in self.replicas.get(uid, {}).values()
        ]

    async def delete(self, uid: UUID, version: int | None = None) -> None:
        self._stage("delete")
        there = self.replicas.get(uid, {})
        for replica in [r for r in there.values() if version in (None, r.workload.version)]:
            if replica.phase is not Phase.ENDED:
                self._end(replica)
            del there[replica.id]
        if not there:
            self.replicas.pop(uid, None)
        self._changed(uid)

    async def deployments(self) -> set[UUID]:
        return set(self.replicas)

    async def versions(self, uid: UUID) -> set[int]:
        return {replica.workload.version for replica in self.replicas.get(uid, {}).values()}

    async def addresses(self, uid: UUID) -> Mapping[int, tuple[str, ...]]:
        return {}

    async def logs(
        self,
        uid: UUID,
        replica_id: str,
        *,
        tail: int | None = None,
        follow: bool = False,
        previous: bool = False,
        since: datetime | None = None,
    ) -> AsyncIterator[str]:
        self._stage("logs")
        if previous or replica_id not in self.replicas.get(uid, {}):
            raise ReplicaNotFound(uid, replica_id)
        lines = self.lines.setdefault(replica_id, [])
        shown = 0 if tail is None else max(0, len(lines) - tail)
        while True:
            for line in lines[shown:]:
                yield f"2026-01-01T00:00:00.000000Z {line}"
            shown = len(lines)
            if not follow:
                return
            await asyncio.sleep(0.01)

    async def watch(self) -> AsyncIterator[UUID]:
        queue: asyncio.Queue[UUID] = asyncio.Queue()
        self._watchers.append(queue)
        while True:
            yield await queue.get()

    # What a test does to it

    def all(self, *, phase: Phase | None = None) -> list[FakeReplica]:
        every = [replica for there in self.replicas.values() for replica in there.values()]
        return [replica for replica in every if phase in (None, replica.phase)]

    def live(self) -> list[FakeReplica]:
        return [replica for replica in self.all() if replica.phase is not Phase.ENDED]

    def settle(self) -> None:
        """Have every replica that is not Ready tried again, with the present outcome."""
        for replica in self.all():
            if replica.phase in (Phase.STARTING, Phase.FAILED, Phase.UNREADY):
                self._run(replica)
                self._changed(replica.workload.uid)

    def touch(self, replica: FakeReplica) -> None:
        self._changed(replica.workload.uid)

    def crash(self, replica: FakeReplica, failure: Failure) -> None:
        replica.phase, replica.failure = Phase.STARTING, failure
        replica.restarts += 1
        self._changed(replica.workload.uid)

    def _run(self, replica: FakeReplica) -> None:
        match self.outcome(replica.workload.template):
            case True:
                replica.phase, replica.failure, replica.proven = Phase.READY, None, True
            case Failure() as failure:
                replica.phase = Phase.FAILED if replica.failure else Phase.STARTING
                replica.restarts += replica.failure is not None
                replica.failure = failure
            case _:
                replica.phase = Phase.STARTING

    def _end(self, replica: FakeReplica) -> None:
        assert not self.forbidden(replica.id), f"{replica.id} was ended while requests were routed to it"
        replica.phase = Phase.ENDED
        self.ended.append(replica.id)

    def _stage(self, stage: str) -> None:
        if error := self.fail_at.pop(stage, None):
            raise error

    def _changed(self, uid: UUID) -> None:
        for queue in self._watchers:
            queue.put_nowait(uid)

    @staticmethod
    def _candidate(replica: FakeReplica) -> Candidate:
        return Candidate(
            id=replica.id,
            template_digest=replica.workload.template.digest,
            phase=replica.phase,
            proven=replica.proven,
            started_at=replica.started_at.timestamp(),
        )


def failure(cause: Cause, *, code: int = 1) -> Failure:
    return Failure(cause, f"It ended: {cause}.", "Look at the log.", Evidence(code, ("last words",)))


AWAY = PlatformError("it is away")


class FakeGateway:
    """Routes what is routable, acknowledges it in `routes` and says so, as the gateway does, while it is `alive`."""

    def __init__(self, sessions: Sessions, hints: Hints) -> None:
        self._sessions = sessions
        self._hints = hints
        self.alive = True
        self.routed: dict[UUID, frozenset[str]] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._about: dict[UUID, tuple[int, int]] = {}

    async def __aenter__(self) -> Self:
        self._end = self._hints.listen(lambda *_: self._woken.set())
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()
        assert self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def routes(self, replica: str) -> bool:
        return any(replica in routed for routed in self.routed.values())

    def wake(self) -> None:
        self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            if self.alive:
                await self._look()
            await self._woken.wait()

    async def _look(self) -> None:
        async with self._sessions.begin() as session:
            replicas: dict[UUID, set[str]] = defaultdict(set)
            # The deployment first: never a generation with the replicas of an older one.
            rows = (await session.execute(select(Deployment).where(Deployment.purged_at.is_(None)))).scalars().all()
            for row in (await session.execute(select(ReplicaRow).where(ReplicaRow.routable))).scalars():
                replicas[row.uid].add(row.id)
            for row in rows:
                mark = (row.generation, row.endpoints_generation)
                if self._about.get(row.uid) == mark:
                    continue
                self._about[row.uid] = mark
                routed = frozenset() if row.deleted_at or row.stopped else frozenset(replicas[row.uid])
                self.routed[row.uid] = routed
                values = {
                    "generation": row.generation,
                    "endpoints_generation": row.endpoints_generation,
                    "weights": row.spec["traffic"]["weights"],
                    "enforced_at": func.clock_timestamp(),
                }
                statement = insert(Route).values(uid=row.uid, **values)
                await session.execute(statement.on_conflict_do_update(index_elements=[Route.uid], set_=values))
                await outbox.append(
                    session,
                    ROUTE_ENFORCED,
                    str(row.uid),
                    id=row.id,
                    generation=row.generation,
                    endpoints_generation=row.endpoints_generation,
                )
