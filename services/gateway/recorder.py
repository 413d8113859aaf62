"""Writes down in `routes` what has come of plans. It works behind the reconciler and keeps nobody waiting: an answer is
good once Envoy has acknowledged; the rows tell those who look later. One key is one deployment id.
"""

from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from services.gateway import commands, queries
from services.gateway.domain import Plan, Record
from services.gateway.envoy.publisher import Outcome
from services.gateway.fleet import Fleet
from shared.database import Direct
from shared.reconcile import Controller, Fence

_COALESCE = 1.0
"""Only other gateways look at what is said of clients; one that has no Envoy may be there unknown to us."""


class Recorder:
    """`gateway` is in whose name; `recorded` is told what has been written, by uid."""

    def __init__(
        self,
        direct: Direct,
        fleet: Fleet,
        *,
        gateway: str,
        recorded: Callable[[str, Mapping[UUID, Record]], None],
    ) -> None:
        self._direct = direct
        self._fleet = fleet
        self._gateway = gateway
        self._recorded = recorded
        self._latest: dict[str, tuple[Plan, Outcome]] = {}
        self._controller = Controller(name="acknowledgements", reconcile=self._record, resync=self._left)

    def note(self, plan: Plan, outcome: Outcome) -> None:
        """This is what has come of the plan; what was noted of earlier ones and is not written yet need not be."""
        if due := plan.due(outcome):
            self._latest[plan.id] = plan, outcome
            hurry = self._fleet.others or not plan.differs_in_clients_only(due)
            self._controller.wake(plan.id, after=0.0 if hurry else _COALESCE)

    async def run(self) -> None:
        await self._controller.run()

    async def regroup(self) -> None:
        """Other gateways have gone, who need not agree any more, or come."""
        for uid, deployment in await queries.unenforced(self._direct):
            await commands.record_route(self._direct, uid, deployment, gateway=self._gateway)

    async def _record(self, deployment: str, _: Fence) -> None:
        if (latest := self._latest.get(deployment)) is None:
            return
        plan, outcome = latest
        due = plan.due(outcome)
        for uid, record in due.items():
            await commands.record_route(self._direct, uid, deployment, gateway=self._gateway, record=record)
        if self._latest.get(deployment) is latest:
            del self._latest[deployment]
            self._recorded(deployment, due)

    async def _left(self) -> Iterable[str]:
        return list(self._latest)
