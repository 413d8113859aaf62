"""Keeps Envoy at what the rows say, and has what Envoy says written down. One key is one deployment id.

Load (one statement) → publish and wait for the acknowledgement → answer those who wait → record, if anything changed.
The id is the key, not the uid, because Envoy's resources are named by it: after a deletion and a new creation two
deployments share it, and two workers must not publish for both at once.

There is no lease: each gateway feeds the Envoys that are connected to it, so all of them act. Each says in `routes`
what its own Envoys have acknowledged, and the row then says what all have (`commands`); the fleet knows who counts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from uuid import UUID

from services.gateway import queries
from services.gateway.domain import Plan, Record, elsewhere, make_plan
from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.platform import PLATFORM, platform_scopes
from services.gateway.envoy.publisher import Enforced, Outcome, Pending, Publisher, Rejected
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Store
from services.gateway.fleet import Fleet
from services.gateway.recorder import Recorder
from shared.database import Direct, is_disconnect
from shared.reconcile import Controller, Fence
from shared.telemetry import get_logger

log = get_logger(__name__)

_ACK_WITHIN = 1.0  # seconds; Envoy needs 3 ms. What takes longer is told by `notify`, and meanwhile the worker is free.
_LONGEST_SLEEP = 86_400.0
_LOOK_AGAIN = 0.05


class Reconciler:
    """`store` is what the xDS server serves; it is empty until `load`, so that server must be started afterwards.
    `gateway` is the name that we go by among the others."""

    def __init__(self, *, direct: Direct, store: Store, snapshot: SnapshotFile, fleet: Fleet, gateway: str) -> None:
        self._direct = direct
        self._recorder = Recorder(direct, fleet, gateway=gateway, recorded=self._recorded)
        self._store = store
        self._fleet = fleet
        self._gateway = gateway
        self._publisher = Publisher(store, snapshot, notify=self._notified)
        self._controller = Controller(name="routes", reconcile=self._reconcile, resync=self.stale, workers=8)
        self._plans: dict[str, Plan] = {}
        self._ids: dict[UUID, str] = {}
        self._enforced: dict[str, DeploymentRoutes | None] = {}
        self._publishing: set[str] = set()
        self._waiters: dict[str, list[asyncio.Future[Outcome]]] = {}
        self.loaded = False

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Load everything, then `serve` (open the port), then reconcile until cancelled."""
        await self._load()
        if not self.loaded:  # else the port is open, and we are started anew after a failure
            await serve()
        self.loaded = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fleet.run(self._recorder.regroup))
            tasks.create_task(self._recorder.run())
            tasks.create_task(self._controller.run())

    async def close(self) -> None:
        await self._publisher.close()

    def wake(self, deployment: str, *, after: float = 0.0) -> None:
        self._controller.wake(deployment, after=after)

    def wake_uid(self, uid: UUID) -> None:
        """For hints, which have nothing but the uid. One that is new is left to its event, which says the id too."""
        if (deployment := self._ids.get(uid)) is not None:
            self._controller.wake(deployment)

    @property
    def missing(self) -> frozenset[str]:
        """The Envoys of ours that are out of reach, and perhaps still routing by what they had."""
        return self._store.missing

    def knows(self, uid: UUID) -> bool:
        return uid in self._ids

    async def enforce(self, deployment: str, *, within: float) -> Outcome:
        """Wait until every Envoy follows what is committed now, at most `within` seconds."""
        deadline = asyncio.get_running_loop().time() + within
        outcome: Outcome = Enforced(None)
        if self._store.connected or self._store.missing or not self._fleet.others:
            outcome = await self._enforce_here(deployment, within=within)
        if isinstance(outcome, Enforced) and self._fleet.others:
            outcome = await self._enforced_elsewhere(deployment, deadline=deadline)
        return outcome

    async def _enforce_here(self, deployment: str, *, within: float) -> Outcome:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._keep_waiting(deployment, [waiter])
        self._controller.wake(deployment)
        try:
            done, _ = await asyncio.wait({waiter}, timeout=within)
            if done:
                return waiter.result()
        finally:
            waiter.cancel()
            self._keep_waiting(deployment, [])
        if missing := self.missing:
            cause = f"Out of reach, and perhaps still routing as before: {', '.join(sorted(missing))}"
        elif self._store.connected:
            cause = f"Envoy has not acknowledged it within {within:g} s"
        else:
            cause = "No Envoy is connected"
        return Pending(f"{cause}; it will be enforced as soon as it can be.")

    async def _enforced_elsewhere(self, deployment: str, *, deadline: float) -> Outcome:
        """The other gateways hear of the change as we did; what they say is looked up, since hints may be lost."""
        loop = asyncio.get_running_loop()
        while True:
            rows = await queries.rows_of(self._direct, deployment, gateway=self._gateway)
            live = next((row for row in rows if not row.deleted), None)
            outcome = elsewhere(live, gateways=self._fleet.others) if live else Enforced(None)
            if not isinstance(outcome, Pending) or loop.time() >= deadline:
                return outcome
            await asyncio.sleep(_LOOK_AGAIN)

    async def stale(self) -> Iterable[str]:
        """The ids whose rows are not what we have made routes of."""
        marks = await queries.marks(self._direct)
        return [
            i for i in {*marks, *self._plans} if i not in self._plans or self._plans[i].marks != marks.get(i, set())
        ]

    async def _load(self) -> None:
        while True:
            try:
                await self._fleet.beat()
                rows = await queries.all_rows(self._direct, gateway=self._gateway)
                break
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("routes.database_away", error=str(error))
                await asyncio.sleep(0.5)
        now = datetime.now(UTC)
        self._plans.clear()
        self._ids.clear()
        self._enforced.clear()
        for deployment, of_id in rows.items():
            self._remember(make_plan(deployment, of_id, now=now), now=now)
        for plan in self._plans.values():
            if plan.routes is None:
                self.wake(plan.id)  # the publisher tells nothing of what it is not given
        routes = [plan.routes for plan in self._plans.values() if plan.routes is not None]
        invalid = [plan.id for plan in self._plans.values() if plan.invalid is not None]
        self._publisher.load(routes, others={PLATFORM: platform_scopes()}, keep=invalid)
        log.info("routes.loaded", deployments=len(routes))

    async def _reconcile(self, deployment: str, _: Fence) -> None:
        waiters = self._waiters.pop(deployment, [])
        outcome: Outcome | None = None
        try:
            plan = await self._read(deployment)
            outcome = await self._publish(plan)
            self._recorder.note(plan, outcome)
        finally:
            if outcome is None or isinstance(outcome, Pending):
                self._keep_waiting(deployment, waiters)
            else:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(outcome)

    def _keep_waiting(self, deployment: str, more: list[asyncio.Future[Outcome]]) -> None:
        """These too, and no longer those that have given up."""
        waiting = [each for each in (*self._waiters.pop(deployment, []), *more) if not each.done()]
        if waiting:
            self._waiters[deployment] = waiting

    async def _read(self, deployment: str) -> Plan:
        rows = await queries.rows_of(self._direct, deployment, gateway=self._gateway)
        now = datetime.now(UTC)
        plan = make_plan(deployment, rows, now=now)
        self._remember(plan, now=now)
        return plan

    def _remember(self, plan: Plan, *, now: datetime) -> None:
        if before := self._plans.pop(plan.id, None):
            for uid in before.records:
                self._ids.pop(uid, None)
        if plan.records:
            self._plans[plan.id] = plan
            self._ids.update(dict.fromkeys(plan.records, plan.id))
        else:
            self._enforced.pop(plan.id, None)
        if plan.next_expiry is not None:
            # It is the reconciler's own look at the clock that ends a client; the resync would not see a difference.
            self.wake(plan.id, after=min((plan.next_expiry - now).total_seconds() + 0.001, _LONGEST_SLEEP))

    async def _publish(self, plan: Plan) -> Outcome:
        if plan.invalid is not None:
            return Rejected(plan.invalid)
        if plan.id in self._enforced and self._enforced[plan.id] == plan.routes:
            return Enforced(plan.routes)
        self._enforced.pop(plan.id, None)
        self._publishing.add(plan.id)
        try:
            outcome = (await self._publisher.publish({plan.id: plan.routes}, within=_ACK_WITHIN))[plan.id]
        finally:
            self._publishing.discard(plan.id)
        if isinstance(outcome, Enforced) and plan.records:
            self._enforced[plan.id] = plan.routes
        return outcome

    def _recorded(self, deployment: str, written: Mapping[UUID, Record]) -> None:
        if (plan := self._plans.get(deployment)) is not None:
            self._plans[deployment] = plan.with_recorded(written)

    def _notified(self, deployment: str, outcome: Outcome) -> None:
        """An outcome that nobody waits for: an Envoy that has just connected, or one that was slow."""
        plan = self._plans.get(deployment)
        if deployment in self._publishing or plan is None or plan.invalid is not None:
            return
        if isinstance(outcome, Enforced) and outcome.routes == plan.routes:
            self._enforced[deployment] = plan.routes
            if not plan.unrecorded and deployment not in self._waiters:
                return
        else:
            self._enforced.pop(deployment, None)  # an Envoy that came later may have refused it
        self.wake(deployment)
