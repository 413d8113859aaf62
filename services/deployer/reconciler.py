"""Brings the platform to what a deployment's row says, a deployment at a time: load, act, record.

Idempotent, and safe to be cut off anywhere: what was done on the platform is seen again by the next run. A replica is
sent requests only once it is Ready (`routable`), and the platform may end one only when Envoy has acknowledged that it
is not sent any (`keep`). A fresh one counts once Envoy has acknowledged it (`serving`); a rollout takes nothing away
before. So with the gateway dead nothing that may be routed is ended, and a rollout waits.

Left out: what a status says (`status`), how rows are read and written (`records`), how often and by whom a key is
worked on (shared.reconcile).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from services.deployer.deployments.domain import Spec, numbers_of
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Phase, Platform, PlatformError, Replica, Workload
from services.deployer.records import Loaded, Records
from services.deployer.seen import Seen
from services.deployer.status import Before, Routed, Status, World, assess, unavailable, unbuildable
from services.deployer.steps import Known, Step, steps
from services.deployer.workloads import Unbuildable, workloads
from shared.reconcile import Fence, Retry, Terminal
from shared.telemetry import get_logger

__all__ = ["Reconciler"]

log = get_logger(__name__)

_LOOK_AGAIN = 5.0
"""Seconds after which a deletion is looked at again, should the platform's word have been lost."""


def _utc() -> datetime:
    return datetime.now(UTC)


class Reconciler:
    """`clock` tells the time, in UTC."""

    def __init__(
        self, *, records: Records, platform: Platform, vault: EnvVault, clock: Callable[[], datetime] = _utc
    ) -> None:
        self._records = records
        self._platform = platform
        self._vault = vault
        self._clock = clock
        self._seen: dict[UUID, Seen] = {}

    async def reconcile(self, key: str, fence: Fence) -> None:
        uid = UUID(key)
        loaded = await self._records.load(uid)
        if loaded is None or loaded.purged:
            self._seen.pop(uid, None)
            await self._end_orphan(uid)
            return
        self._seen[uid] = Seen(loaded.generation, loaded.routed_generation, loaded.acknowledged, loaded.rejected)
        if loaded.deleted:
            await self._remove(loaded, fence)
        else:
            await self._drive(loaded, fence)

    def seen(self, uid: UUID) -> Seen:
        """What a run has read of it last. Should that run fail, it comes again by itself."""
        return self._seen.get(uid, Seen())

    async def resync(self) -> Iterable[str]:
        """What may need work: what has not settled, what looks other than it was noted, and what nobody knows."""
        noted, there = await self._records.noted(), await self._platform.deployments()
        found = set(await self._records.unsettled()) | (there - noted.keys())
        for uid in noted.keys() - found:
            await asyncio.sleep(0)  # to look takes no wait, and thousands must not hold up everything else
            seen = {each.id: (str(each.phase), each.port or None) for each in await self._platform.observe(uid)}
            if seen != noted[uid]:
                found.add(uid)
        return map(str, found)

    async def watch(self, wake: Callable[[str], None]) -> None:
        """Wake what the platform says has changed, until cancelled."""
        while True:
            async for uid in self._platform.watch():
                wake(str(uid))
            await asyncio.sleep(1)

    # A deployment that is wanted

    async def _drive(self, loaded: Loaded, fence: Fence) -> None:
        spec, now, state = cast(Spec, loaded.spec), self._clock(), loaded.state
        before = Before(
            phase=state.phase,
            conditions=state.conditions,
            versions=state.version_status,
            progressing_since=state.progressing_since,
        )
        try:
            wanted = workloads(
                uid=loaded.uid,
                deployment=loaded.id,
                group=loaded.group,
                spec=spec,
                stopped=loaded.stopped,
                keep=loaded.keep,
                serving=loaded.serving,
                vault=self._vault,
                capabilities=self._platform.capabilities,
            )
        except Unbuildable as error:
            status = unbuildable(
                before=before, reason=error.reason, message=error.message, advice=error.advice, now=now
            )
            noted = _steps(loaded, None, status)
            await self._records.record_status(loaded, fence, status=status, done=True, steps=noted)
            raise Terminal(error.message) from error
        try:
            observed = await self._act(loaded, wanted)
        except PlatformError as error:
            status = unavailable(spec=spec, stopped=loaded.stopped, before=before, error=str(error), now=now)
            await self._records.record_status(loaded, fence, status=status, done=False)
            raise
        live = set(numbers_of(spec))
        routable = frozenset(
            replica.id
            for replica in observed
            if replica.phase is Phase.READY and replica.port and replica.version in live and not loaded.stopped
        )
        moved = bool(loaded.moved(observed, routable))
        status = assess(
            World(
                spec=spec,
                stopped=loaded.stopped,
                generation=loaded.generation,
                endpoints_generation=state.endpoints_generation + moved,
                templates={workload.version: workload.template.digest for workload in wanted},
                replicas=observed,
                routable=routable,
                routed=Routed(
                    generation=loaded.routed_generation,
                    endpoints_generation=loaded.acknowledged,
                    rejected=loaded.rejected,
                ),
                addresses=await self._platform.addresses(loaded.uid),
            ),
            before,
            now=now,
        )
        await self._records.record(
            loaded, fence, observed=observed, routable=routable, status=status, steps=_steps(loaded, observed, status)
        )
        if status.deadline is not None:
            raise Retry(after=max(0.0, (status.deadline - now).total_seconds()))

    async def _act(self, loaded: Loaded, wanted: Sequence[Workload]) -> Sequence[Replica]:
        """Tell the platform what is wanted, and see what is there."""
        uid, keep = loaded.uid, loaded.keep
        for workload in wanted:
            await self._platform.apply(workload)
        observed = await self._platform.observe(uid)
        for version in await self._platform.versions(uid) - {workload.version for workload in wanted}:
            # A deleted version: once it is acknowledged that none of its replicas is sent requests, they may end.
            if not any(replica.id in keep for replica in observed if replica.version == version):
                await self._platform.delete(uid, version)
        return observed

    # A deployment that is not

    async def _remove(self, loaded: Loaded, fence: Fence) -> None:
        uid = loaded.uid
        if loaded.routable:
            await self._records.unroute(loaded, fence)
            return  # the gateway's acknowledgement comes next
        if loaded.keep:
            return
        await self._platform.delete(uid)
        if await self._platform.observe(uid) or uid in await self._platform.deployments():
            raise Retry(after=_LOOK_AGAIN)
        await self._records.purge(loaded, fence)
        self._seen.pop(uid, None)

    async def _end_orphan(self, uid: UUID) -> None:
        if uid in await self._platform.deployments():
            log.warning("orphan.ended", uid=str(uid))
            await self._platform.delete(uid)


def _steps(loaded: Loaded, observed: Sequence[Replica] | None, status: Status) -> list[Step]:
    """`observed` is None when nobody has looked."""
    known = loaded.replicas.values() if observed is not None else ()
    noted = steps(
        {r.id: Known(version=r.version, phase=r.phase, restarts=r.restarts) for r in known},
        observed or (),
        phase_before=loaded.state.phase if loaded.state.observed_generation else "",
        phase_after=status.phase,
        reason=next(each["message"] for each in status.conditions if each["type"] == "Progressing"),
    )
    if loaded.state.observed_generation != loaded.generation:
        why = f": {loaded.message}" if loaded.message else ""
        noted.insert(0, Step("accepted", f"Revision {loaded.revision} by {loaded.updated_by}{why}"))
    return noted
