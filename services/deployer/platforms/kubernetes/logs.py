"""What a pod has printed, through the API server, as lines like every platform's: a time in UTC, and text."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.deployer.platforms.kubernetes import runs
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.errors import Invalid, NotFound
from services.deployer.platforms.kubernetes.objects import Container, Pod, Waiting
from services.deployer.platforms.platform import PlatformError, ReplicaNotFound

_EVIDENCE_AT_ONCE = 8


async def read(
    api: Api,
    pod: Pod,
    *,
    tail: int | None,
    follow: bool,
    previous: bool,
    since: datetime | None,
) -> AsyncIterator[str]:
    """Of the container where the pod has come to: one that cannot fetch its model says so, not the replica."""
    container = runs.present(pod)
    if container is None or not _has_run(container) or (previous and container.last is None):
        raise ReplicaNotFound(pod.deployment, pod.name)
    start = _moment(since.astimezone(UTC).isoformat()) if since is not None else ""
    lines = api.logs(pod.namespace, pod.name, container.name, previous=previous, tail=tail, since=since, follow=follow)
    try:
        async for line in lines:
            stamped = _stamped(line)
            if stamped >= start:  # the API server knows seconds only
                yield stamped
    except (NotFound, Invalid) as error:
        raise ReplicaNotFound(pod.deployment, pod.name) from error


@dataclass(frozen=True, slots=True)
class _Lines:
    """Of a run; until they are `here`, those of the run before."""

    run: Hashable
    lines: list[str]
    here: bool


class Evidence:
    """The last lines of runs that have ended, each fetched once, in the background."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._slots = asyncio.Semaphore(_EVIDENCE_AT_ONCE)
        self._found: dict[UUID, dict[str, _Lines]] = {}

    def of(self, pod: Pod) -> list[str] | None:
        """None until they are here; meanwhile those of the run before have to do, if there are any."""
        noted = self._noted(pod)
        return noted.lines or ([] if noted.run == _last(pod) and noted.here else None)

    def begin(self, pod: Pod) -> bool:
        """Whether a run has ended that was not heard of before: then it is to be fetched."""
        last, noted = _last(pod), self._noted(pod)
        if last is None or noted.run == last:
            return False
        self._found.setdefault(pod.deployment, {})[pod.uid] = _Lines(last, noted.lines, here=False)
        return True

    async def fetch(self, pod: Pod, *, count: int, within: float) -> None:
        """Up to `count` lines, those that come within so many seconds."""
        run, lines = runs.last_run(pod), set[str]()
        if run is None:
            return
        async with self._slots:
            with suppress(TimeoutError):  # what has come stands, and the run's own last word
                async with asyncio.timeout(within):
                    if run.latest:
                        await self._read(pod, run, lines, previous=False, count=count)
                    # Also of the latest: the kubelet may have begun the next one, the first time it does so at once.
                    await self._read(pod, run, lines, previous=True, count=count)
        if self._noted(pod).run == _last(pod):
            self._found[pod.deployment][pod.uid] = _Lines(_last(pod), sorted(lines)[-count:], here=True)

    async def _read(self, pod: Pod, run: runs.Run, lines: set[str], *, previous: bool, count: int) -> None:
        found = self._api.logs(pod.namespace, pod.name, run.container.name, previous=previous, tail=count)
        with suppress(PlatformError):
            async for line in found:
                if _may_be_of(run, stamped := _stamped(line), previous=previous):
                    lines.add(stamped)

    def forget_others(self, uid: UUID, pods: Iterable[Pod]) -> None:
        """Of a deployment these are all the pods that there are."""
        if found := self._found.pop(uid, None):
            left = {pod.uid: found[pod.uid] for pod in pods if pod.uid in found}
            if left:
                self._found[uid] = left

    def _noted(self, pod: Pod) -> _Lines:
        return self._found.get(pod.deployment, {}).get(pod.uid, _Lines(None, [], here=True))


def _last(pod: Pod) -> Hashable:
    run = runs.last_run(pod)
    return (run.container.name, run.number) if run is not None else None


def _may_be_of(run: runs.Run, line: str, *, previous: bool) -> bool:
    """Where the latest run was asked for, the container may be in the next one by now, and what was before that is
    then not the run before. When a run began and ended is known to the second."""
    at, begin, end = line.partition(" ")[0], run.end.started_at, run.end.finished_at
    if not at[:1].isdigit():
        return False  # the kubelet's own word, in place of a log that has been removed
    if not run.latest:
        return True
    if previous:
        return begin is None or at >= _moment(begin.isoformat())
    return end is None or at < _moment((end + timedelta(seconds=1)).isoformat())


def _has_run(container: Container) -> bool:
    return container.last is not None or not isinstance(container.state, Waiting)


def _stamped(line: str) -> str:
    """With its time to the microsecond in UTC, and nothing that a terminal would obey."""
    moment, _, text = line.partition(" ")
    text = text.rstrip("\r")
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)
    return f"{_moment(moment)} {text}"


def _moment(text: str) -> str:
    """RFC 3339 with nanoseconds, of any zone, to microseconds in UTC."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        return text
