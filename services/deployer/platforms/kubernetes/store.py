"""All that we have on the cluster, as of now: one list and watch per kind, however many deployments there are.

Not here: Secrets, which we may write but not read.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from services.deployer.platforms.kubernetes import trimming
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    POD,
    SERVICE,
    VOLUME,
    Kind,
    Object,
    kind_of,
)
from services.deployer.platforms.kubernetes.names import OURS
from services.deployer.platforms.kubernetes.objects import Item, Pod, PodWarning, Resource, Root
from services.deployer.platforms.kubernetes.reflector import Reflector
from services.deployer.platforms.kubernetes.table import Table

_RESOURCES = (CONFIG_MAP, SERVICE, AUTOSCALER, CLAIM, VOLUME)
_ABOUT_PODS = "involvedObject.kind=Pod,type=Warning"


class Store:
    """`start` it and `close` it; it is to be relied on once it is `known`.

    `changed` is told the uid of each deployment of which something became different.

    What matches the label `selector` is ours. With a `namespace` only that one is looked at (and volumes, which are in
    none). `watch_seconds` is about how long a watch lasts before it is begun anew, and about how long it may take to
    notice that the network has swallowed one.
    """

    def __init__(
        self,
        api: Api,
        changed: Callable[[UUID], None],
        *,
        selector: str = OURS,
        namespace: str | None = None,
        watch_seconds: int = 100,
    ) -> None:
        self._changed = changed
        self._roots = Table[Root](self._item_changed)
        self._pods = Table[Pod](self._item_changed)
        self._resources = {kind: Table[Resource](self._item_changed) for kind in _RESOURCES}
        self._warnings = Table[PodWarning](self._warning_changed)
        where: Mapping[str, Any] = {"namespace": namespace, "seconds": watch_seconds}
        ours = {"selector": selector, **where}
        self._reflectors: dict[Kind, Reflector[Any]] = {
            DEPLOYMENT: Reflector(api, DEPLOYMENT, self._roots, trimming.trim_root, **ours),
            POD: Reflector(api, POD, self._pods, trimming.trim_pod, **ours),
            EVENT: Reflector(api, EVENT, self._warnings, trimming.trim_warning, fields=_ABOUT_PODS, **where),
            **{
                kind: Reflector(api, kind, table, trimming.trim_resource, **ours)
                for kind, table in self._resources.items()
            },
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(reflector.run(), name=f"watch of {kind.plural}")
            for kind, reflector in self._reflectors.items()
        ]

    async def known(self) -> None:
        """Return once everything has been listed, however long that takes."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def trouble(self) -> str | None:
        """Why what is here may be old, or nothing at all, when a watch is down."""
        for each in self._reflectors.values():
            if each.trouble is not None:
                return each.trouble
        return None if all(each.synced.is_set() for each in self._reflectors.values()) else "not everything is listed"

    def roots(self, uid: UUID) -> list[Root]:
        return self._roots.of(uid)

    def pods(self, uid: UUID) -> list[Pod]:
        return self._pods.of(uid)

    def resources(self, uid: UUID, kind: Kind) -> list[Resource]:
        """Its objects of one of the other kinds."""
        return self._resources[kind].of(uid)

    def warnings(self, pod: Pod) -> list[PodWarning]:
        """In no order."""
        return self._warnings.of(pod.uid)

    def deployments(self) -> set[UUID]:
        """All of which there is anything."""
        return {uid for table in self._tables() for uid in table.owners() if isinstance(uid, UUID)}

    def versions(self, uid: UUID) -> set[int]:
        """Those versions of it of which there is anything."""
        return {item.version for table in self._tables() for item in table.of(uid)}

    def learn(self, found: Object) -> None:
        """Take in what the API server has answered to a change of ours, before the watch brings it."""
        if reflector := self._reflectors.get(kind_of(found)):
            reflector.learn(found)

    def _tables(self) -> list[Table[Any]]:
        return [self._roots, self._pods, *self._resources.values()]

    def _item_changed(self, item: Item) -> None:
        self._changed(item.deployment)

    def _warning_changed(self, warning: PodWarning) -> None:
        if pod := self._pods.get(warning.pod):
            self._changed(pod.deployment)
