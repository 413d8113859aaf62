"""Publishing: say what shall be, and learn when it is enforced.

A change is *enforced* once every Envoy has acknowledged all of it and the snapshot holds it: no request that begins
afterwards sees the old state, and no Envoy that starts cold brings it back. The snapshot follows what the connected
Envoys hold; an Envoy that is missing keeps a change from being enforced, and nothing else. Changes of many deployments
go their way side by side; the order within each is `peer.py`'s.

What is new and refused by any Envoy is taken back to the last good state, everywhere. What was good before and is
refused by one (of another release, say) is that Envoy's trouble: it is told, and the others go on with what is wanted.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.resources import Bundle
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.store import Phase, Status, Store
from services.gateway.envoy.translate import translate

__all__ = ["Enforced", "Outcome", "Pending", "Publisher", "Rejected"]

_log = logging.getLogger(__name__)

_RETRY_SNAPSHOT_AFTER = 1.0
_CLOSE_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Enforced:
    """All Envoys follow it; a cold one would too. `routes` is what is enforced now: what was published, or what was
    published after it meanwhile. None: removed."""

    routes: DeploymentRoutes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An Envoy refused it, and goes on with the last good state."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet: it is wanted, and will be enforced as soon as Envoy can be reached. `notify` tells then."""

    reason: str


Outcome = Enforced | Rejected | Pending


@dataclass(slots=True)
class _Change:
    """The latest change of one deployment that is not enforced yet."""

    bundle: Bundle | None
    routes: DeploymentRoutes | None
    waiters: list[asyncio.Future[Outcome]] = field(default_factory=list)
    before: Bundle | None = None
    """What was wanted before, if that was not enforced yet either."""
    refused: frozenset[str] = frozenset()
    """Resources (their versions) that an Envoy has refused on the way here: this is then the way back."""
    recorded: bool = False
    """The snapshot has it: every connected Envoy that takes it holds it."""
    told: Outcome | None = None


class Publisher:
    """Turns routes into wanted bundles, follows their acknowledgement, keeps the snapshot.

    `notify` is called with each outcome that is reached, also when nobody waits for it (any more): what was pending is
    enforced when an Envoy connects later.
    """

    def __init__(
        self,
        store: Store,
        snapshot: SnapshotFile,
        *,
        notify: Callable[[str, Outcome], None] = lambda _id, _outcome: None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._notify = notify
        self._open: dict[str, _Change] = {}
        self._good: dict[str, Bundle] = {}
        self._acknowledged: dict[str, _Change] = {}
        self._recorder: asyncio.Task[None] | None = None
        store.listen(self._progressed)

    def load(
        self,
        routes: Iterable[DeploymentRoutes],
        *,
        others: Mapping[str, Bundle] | None = None,
        keep: Collection[str] = (),
    ) -> None:
        """The whole state, before the port opens. What the snapshot holds beyond it is removed everywhere, but for what
        is to be kept as it is: what should be there instead cannot be said."""
        changes: dict[str, _Change] = {
            bundle_id: _Change(self._snapshot.read(bundle_id) if bundle_id in keep else None, None)
            for bundle_id in self._snapshot.versions
        }
        changes |= {bundle_id: _Change(bundle, None) for bundle_id, bundle in (others or {}).items()}
        changes |= {each.id: _Change(translate(each), each) for each in routes}
        self._want(changes)

    async def publish(
        self, changes: Mapping[str, DeploymentRoutes | None], *, within: float = 5.0
    ) -> dict[str, Outcome]:
        """Want these routes (None: no deployment of that id) and wait until they are enforced, or refused."""
        loop = asyncio.get_running_loop()
        waiters: dict[str, asyncio.Future[Outcome]] = {each: loop.create_future() for each in changes}
        self._want(
            {
                each: _Change(translate(routes) if routes else None, routes, [waiters[each]])
                for each, routes in changes.items()
            }
        )
        try:
            if waiters and self._store.connected:
                await asyncio.wait(waiters.values(), timeout=within)
            return {each: w.result() if w.done() else self._pending(within) for each, w in waiters.items()}
        finally:
            for waiter in waiters.values():
                waiter.cancel()  # those that are left: nobody waits for them any more

    async def close(self) -> None:
        """Let what is being recorded reach the disk, if the disk takes it."""
        if (recorder := self._recorder) is not None:
            await asyncio.wait([recorder], timeout=_CLOSE_WITHIN)
            recorder.cancel()

    def _pending(self, within: float) -> Pending:
        connected = self._store.connected
        if not connected:
            return Pending("no Envoy is connected")
        return Pending(f"{connected} Envoys are connected, and not all have acknowledged within {within:g} s")

    def _want(self, changes: Mapping[str, _Change]) -> None:
        for bundle_id, change in changes.items():
            if (earlier := self._open.get(bundle_id)) is not None:
                change.waiters.extend(waiter for waiter in earlier.waiters if not waiter.done())
                change.before = earlier.bundle
            self._open[bundle_id] = change
            self._acknowledged.pop(bundle_id, None)
        self._store.apply({bundle_id: change.bundle for bundle_id, change in changes.items()})
        self._progressed(changes)

    def _progressed(self, ids: Iterable[str] | None) -> None:
        """The store's listener: some Envoy has answered, or has gone, or is expected."""
        reverts: dict[str, _Change] = {}
        for bundle_id in list(self._open) if ids is None else ids:
            status, change = self._store.status(bundle_id), self._open.get(bundle_id)
            if change is None:
                if status.phase is Phase.REJECTED:  # by one that came after it was enforced
                    self._notify(bundle_id, Rejected(status.reason))
                continue
            match status.phase:
                case Phase.REJECTED if fresh := self._fresh(bundle_id, status.refused):
                    _log.error("routes refused by envoy", extra={"deployment": bundle_id, "reason": status.reason})
                    del self._open[bundle_id]
                    if not change.refused:
                        self._tell(bundle_id, change, Rejected(status.reason))
                    reverts[bundle_id] = self._way_back(bundle_id, change, fresh)
                case Phase.ENFORCED | Phase.REJECTED if not status.waiting:
                    self._settled(bundle_id, change, status)
                # No Envoy is ours, and yet one may start cold from our snapshot: it is not to revive what is past.
                case Phase.UNKNOWN if self._store.elsewhere:
                    self._settled(bundle_id, change, status)
        if self._acknowledged and self._recorder is None:
            self._recorder = asyncio.create_task(self._record())
        if reverts:
            self._want(reverts)

    def _settled(self, bundle_id: str, change: _Change, status: Status) -> None:
        """The connected Envoys are as far as they will come: have it written, and once it is, say so."""
        if change.recorded:
            self._conclude(bundle_id, change, status)
        else:
            self._acknowledged[bundle_id] = change

    def _last_good(self, bundle_id: str) -> Bundle | None:
        return self._good.get(bundle_id) or self._snapshot.read(bundle_id)

    def _fresh(self, bundle_id: str, refused: frozenset[str]) -> frozenset[str]:
        """Of what is refused, what was not part of the last good state."""
        good = self._last_good(bundle_id)
        return refused - {resource.version for resource in good.resources.values()} if good else refused

    def _way_back(self, bundle_id: str, change: _Change, fresh: frozenset[str]) -> _Change:
        """To the latest state of which nothing was refused; to none, if there is none."""
        refused = change.refused | fresh
        for bundle in (change.before, self._last_good(bundle_id)):
            if bundle and refused.isdisjoint(resource.version for resource in bundle.resources.values()):
                return _Change(bundle, None, refused=refused)
        return _Change(None, None, refused=refused)

    async def _record(self) -> None:
        """Write what is acknowledged, then say what has come of it. What comes meanwhile goes into the next batch."""
        try:
            while self._acknowledged:
                batch, self._acknowledged = self._acknowledged, {}
                try:
                    await asyncio.to_thread(self._snapshot.write, {i: c.bundle for i, c in batch.items()})
                except Exception:  # whatever it is: given up, what is open would never be told of
                    _log.exception("snapshot not written, trying again")
                    self._acknowledged = batch | self._acknowledged
                    await asyncio.sleep(_RETRY_SNAPSHOT_AFTER)
                    continue
                for bundle_id, change in batch.items():
                    self._recorded(bundle_id, change)
        finally:
            self._recorder = None

    def _recorded(self, bundle_id: str, change: _Change) -> None:
        if self._open.get(bundle_id) is not change:
            return  # wanted otherwise meanwhile; that change's waiters are these
        change.recorded = True
        if change.bundle is None:
            self._good.pop(bundle_id, None)
        else:
            self._good[bundle_id] = change.bundle
        self._progressed([bundle_id])

    def _conclude(self, bundle_id: str, change: _Change, status: Status) -> None:
        outcome: Outcome
        if status.phase is Phase.UNKNOWN:
            outcome = Pending("no Envoy is connected")
        elif status.phase is Phase.REJECTED:
            outcome = Rejected(status.reason)
        elif missing := self._store.missing:
            outcome = Pending(f"out of reach, and perhaps still routing as before: {', '.join(sorted(missing))}")
        else:
            outcome = Enforced(change.routes)
            del self._open[bundle_id]
        if not change.refused and change.told != outcome:
            change.told = outcome
            self._tell(bundle_id, change, outcome)

    def _tell(self, bundle_id: str, change: _Change, outcome: Outcome) -> None:
        for waiter in change.waiters:
            if not waiter.done():
                waiter.set_result(outcome)
        if not isinstance(outcome, Pending):
            self._notify(bundle_id, outcome)
