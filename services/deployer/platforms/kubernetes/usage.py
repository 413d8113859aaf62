"""What the pods use, from metrics.k8s.io where a cluster has it: one list for all of them, every now and then.

It knows how fast CPU time is used, not how much has been used; so that is summed up from the first look on.
"""

from collections.abc import Mapping
from datetime import datetime

from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.kinds import Object
from services.deployer.platforms.kubernetes.names import CONTAINER
from services.deployer.platforms.platform import Usage

_STEPS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY_STEPS = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


class Meter:
    """`usage` is by pod name."""

    def __init__(self, api: Api, *, selector: str, namespace: str | None) -> None:
        self._api = api
        self._selector = selector
        self._namespace = namespace
        self._looked: dict[str, datetime] = {}
        self.usage: Mapping[str, Usage] = {}

    async def look(self) -> None:
        found = await self._api.usage(namespace=self._namespace, selector=self._selector)
        before, looked = self.usage, self._looked
        usage, times = {}, {}
        for each in found or ():
            name, at = each["metadata"]["name"], datetime.fromisoformat(each["timestamp"])
            cores, memory = _used(each)
            known, since = before.get(name), looked.get(name, at)
            spent = (known.cpu_seconds if known else 0.0) + cores * max(0.0, (at - since).total_seconds())
            usage[name], times[name] = Usage(cpu_seconds=spent, memory=memory), at
        self.usage, self._looked = usage, times


def _used(found: Object) -> tuple[float, int]:
    """Cores and bytes of the replica's container."""
    for container in found["containers"]:
        if container["name"] == CONTAINER:
            return _amount(container["usage"]["cpu"]), round(_amount(container["usage"]["memory"]))
    return 0.0, 0


def _amount(quantity: str) -> float:
    number = quantity.rstrip("numkKMGTi")
    unit = quantity[len(number) :]
    return float(number) * (_BINARY_STEPS[unit] if unit.endswith("i") else _STEPS[unit])
