"""The last lines of a run that has failed: its own, and here before they are missed."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.logs import Evidence
from services.deployer.platforms.kubernetes.objects import Pod
from tests.deployer.platforms.kubernetes.judged import at, container, ended, pod


class Logs:
    """What the API server has of the run that is there now, and of the one before. It may keep one waiting."""

    def __init__(self, *now: str, before: tuple[str, ...] = (), hangs: bool = False) -> None:
        self._now, self._before, self._hangs = now, before, hangs

    async def logs(self, *_: str, previous: bool, tail: int) -> AsyncIterator[str]:
        for line in (self._before if previous else self._now)[-tail:]:
            yield line
        if self._hangs:
            await asyncio.Event().wait()


async def fetched(logs: Logs, of: Pod) -> list[str] | None:
    evidence = Evidence(cast(Api, logs))
    assert evidence.of(of) is None, "not here yet"
    assert evidence.begin(of)
    assert not evidence.begin(of), "once is enough"
    assert evidence.of(of) is None
    await evidence.fetch(of, count=2, within=0.1)
    return evidence.of(of)


def stamp(seconds: float) -> str:
    return at(seconds).isoformat().replace("+00:00", "Z")


async def test_the_lines_are_those_of_the_run_that_failed() -> None:
    """It ended at 15 s, and the kubelet may have begun another run before anybody asked."""
    found = pod(container(state=ended(65)))
    lines = [f"{stamp(12)} one", f"{stamp(14)} two", f"{stamp(15.5)} three"]
    assert [each.split(" ")[1] for each in await fetched(Logs(*lines), found) or ()] == ["two", "three"]
    assert [each.split(" ")[1] for each in await fetched(Logs(before=tuple(lines)), found) or ()] == ["two", "three"]
    later = Logs(f"{stamp(17)} another", before=tuple(lines))
    assert [each.split(" ")[1] for each in await fetched(later, found) or ()] == ["two", "three"]
    assert await fetched(Logs(before=(f"{stamp(5)} of the run before",)), found) == []
    gone = Logs(*lines, before=("unable to retrieve container logs for containerd://22fa51ff403b",))
    assert [each.split(" ")[1] for each in await fetched(gone, found) or ()] == ["two", "three"]


async def test_until_its_lines_are_here_those_of_the_run_before_have_to_do() -> None:
    evidence = Evidence(cast(Api, Logs(f"{stamp(12)} one")))
    first = pod(container(state=ended(65)))
    evidence.begin(first)
    await evidence.fetch(first, count=2, within=1)
    second = pod(container(state=ended(65), restarts=1))
    assert evidence.begin(second)
    assert [each.split(" ")[1] for each in evidence.of(second) or ()] == ["one"]


async def test_lines_that_do_not_come_hold_up_nobody() -> None:
    found = pod(container(state=ended(65)))
    assert await fetched(Logs(), found) == []
    assert len(await fetched(Logs(f"{stamp(12)} one", hangs=True), found) or ()) == 1
