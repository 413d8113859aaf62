"""What the replicas use, out of one look at all processes of the machine for all of them."""

import time

from services.deployer.platforms.platform import Usage
from shared.process import Stat, processes

FRESH = 0.5
"""Seconds for which one look is good."""


class Meter:
    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._stats: dict[int, Stat] = {}
        self._children: dict[int, list[int]] = {}

    def usage(self, shim: int) -> Usage | None:
        """All below the shim, and those that it has reaped; not the shim itself. None when it has just gone."""
        if time.monotonic() - self._looked_at > FRESH:
            self._look()
        root = self._stats.get(shim)
        if root is None:
            return None
        cpu, memory = root.children_cpu, 0
        below = list(self._children.get(shim, ()))
        while below:
            pid = below.pop()
            stat = self._stats[pid]
            cpu += stat.cpu + stat.children_cpu
            memory += stat.memory
            below += self._children.get(pid, ())
        return Usage(cpu_seconds=cpu, memory=memory)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._stats = dict(processes())
        self._children = {}
        for pid, stat in self._stats.items():
            self._children.setdefault(stat.parent, []).append(pid)
