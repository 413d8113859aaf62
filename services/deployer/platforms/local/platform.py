"""Replicas as processes on this machine, behind the `Platform` protocol.

Each replica is run by a shim that outlives the deployer; `start` adopts what an earlier process left running, `close`
lets go of it. One platform owns its root folder, held by a lock, and everything it knows is in that folder:

    <root>/lock
    <root>/models/<hex>          unpacked models, shared by the replicas (`modelserver.pull` fills it)
    <root>/<uid>/<replica>/…     see `state`

Left out: a machine that is not Linux, more than one port a replica, isolation (replicas are processes of our user).
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID
from weakref import WeakSet

from services.deployer.platforms.local import logs
from services.deployer.platforms.local.host import Host, Options, free_port
from services.deployer.platforms.local.replica import LocalReplica
from services.deployer.platforms.local.state import Folder, Record, boot_id
from services.deployer.platforms.local.usage import Meter
from services.deployer.platforms.platform import Capabilities, Phase, PlatformError, Replica, ReplicaNotFound, Workload
from services.deployer.platforms.rollout import plan
from services.deployer.platforms.watcher import Watcher
from shared.process import Process
from shared.secrets import Vault

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # without vowels: no words; Kubernetes names its pods from it too
LOCK_PATIENCE = 15.0


class LocalPlatform:
    """See `Platform`. Use it as `async with LocalPlatform(…) as platform`, or `start` and `close`."""

    def __init__(
        self,
        root: Path,
        artifact_url: Callable[[str], str],
        *,
        vault: Vault,
        python: str = sys.executable,
        options: Options | None = None,
    ) -> None:
        self._root = root.absolute()
        self._artifact_url = artifact_url
        self._vault = vault
        self._python = python
        self._options = options or Options()
        self._replicas: dict[UUID, dict[str, LocalReplica]] = {}
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._meter = Meter()
        self._lock = -1

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Adopt what is there. Raises PlatformError when another process owns the root folder and does not let go."""
        self._models.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)
        await self._take_lock()
        for uid in filter(_is_uid, self._root.iterdir()):
            for path in uid.iterdir():
                await self._find(Folder(path))
        self._tidy()

    async def close(self) -> None:
        """Let go of everything; the replicas run on."""
        await asyncio.gather(*(replica.leave() for replica in self._all()))
        for watcher in self._watchers:
            watcher.close()
        os.close(self._lock)

    # The protocol

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    @property
    def trouble(self) -> str | None:
        """None: it is this machine."""
        return None

    async def known(self) -> None:
        """At once: `start` has found everything."""

    async def apply(self, workload: Workload) -> None:
        """See `Platform.apply`. There is no await in here, so that two of them cannot mix."""
        there = self._of(workload.uid, workload.version)
        for replica in there:
            if not replica.record.ending and replica.record.template_digest == workload.template.digest:
                replica.provide(workload)
        steps = plan(
            wanted=workload.replicas,
            digest=workload.template.digest,
            replicas=[replica.candidate for replica in there],
            keep=workload.keep,
            serving=workload.serving,
            now=time.time(),
            settle=self._options.settle,
        )
        known = self._replicas.get(workload.uid, {})
        for replica_id in steps.drain:
            known[replica_id].drain()
        for replica_id in steps.end:
            known[replica_id].end()
        for _ in range(steps.start):
            self._create(workload)

    async def observe(self, uid: UUID) -> list[Replica]:
        """See `Platform.observe`."""
        return [self._observed(r) for r in sorted(self._of(uid), key=lambda r: r.record.created_at)]

    async def delete(self, uid: UUID, version: int | None = None) -> None:
        """See `Platform.delete`."""
        for replica in self._of(uid, version):
            if replica.record.ended_at is not None:
                self._forget(replica)
            elif not replica.record.deleted:
                replica.end(forget=True)
        self._tidy()

    async def deployments(self) -> set[UUID]:
        """See `Platform.deployments`."""
        return set(self._replicas)

    async def addresses(self, uid: UUID) -> Mapping[int, tuple[str, ...]]:  # noqa: ARG002 - the protocol's signature
        """None: admission lets no `Exposure` come here."""
        return {}

    async def versions(self, uid: UUID) -> set[int]:
        """See `Platform.versions`."""
        return {replica.record.version for replica in self._of(uid)}

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
        """See `Platform.logs`."""
        replica = self._replicas.get(uid, {}).get(replica_id)
        number = replica.record.run - previous if replica else 0
        if replica is None or number < 1:
            raise ReplicaNotFound(uid, replica_id)

        def ended() -> bool:
            return replica.run_ended(number)

        run = replica.folder.run(number)
        async for line in logs.read(run, tail=tail, since=since, ended=ended if follow else None):
            yield line

    def watch(self) -> AsyncIterator[UUID]:
        """See `Platform.watch`."""
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    # Inside

    async def _find(self, folder: Folder) -> None:
        """Take on a replica of an earlier process; what cannot be read is ended and removed."""
        record = folder.load()
        if record is not None:
            self._add(record, folder).start()
            return
        for state in folder.states():
            process = Process.adopt(state.identity) if state.boot == boot_id() else None
            if process is not None:
                await process.terminate(grace=0.0)
        folder.remove()

    @property
    def _models(self) -> Path:
        return self._root / "models"

    def _all(self) -> Iterable[LocalReplica]:
        return (replica for group in self._replicas.values() for replica in group.values())

    def _of(self, uid: UUID, version: int | None = None) -> list[LocalReplica]:
        group = self._replicas.get(uid, {}).values()
        return [replica for replica in group if version in (None, replica.record.version)]

    async def _take_lock(self) -> None:
        self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= end:
                    os.close(self._lock)
                    raise PlatformError(f"another process runs the replicas in {self._root}") from None
                await asyncio.sleep(0.1)

    def _create(self, workload: Workload) -> None:
        template = workload.template
        suffix = "".join(secrets.choice(ALPHABET) for _ in range(6))
        record = Record(
            id=f"{workload.id}-v{workload.version}-{suffix}",
            version=workload.version,
            template_digest=template.digest,
            model_digest=template.model.digest if template.model else None,
            host=self._options.address,
            port=0,
            probe_path=template.probe.path,
            start_seconds=template.probe.start_seconds,
            grace_seconds=template.grace_seconds,
            memory=template.resources.memory,
            created_at=time.time(),
        )
        replica = self._add(record, Folder(self._root / str(workload.uid) / record.id))
        replica.provide(workload)
        replica.start()

    def _add(self, record: Record, folder: Folder) -> LocalReplica:
        uid = folder.uid

        def port(current: int) -> int:
            taken = {r.record.port for r in self._all() if r.record is not record and r.record.ended_at is None}
            return free_port(current, address=self._options.address, among=self._options.ports, taken=taken)

        def changed() -> None:
            if record.ended_at is not None:
                self._ended(replica)
            for watcher in self._watchers:
                watcher.add(uid)

        host = Host(
            options=self._options,
            python=self._python,
            models=self._models,
            artifact_url=self._artifact_url,
            vault=self._vault,
            port=port,
            changed=changed,
        )
        replica = LocalReplica(record, folder, host)
        self._replicas.setdefault(uid, {})[record.id] = replica
        return replica

    def _ended(self, replica: LocalReplica) -> None:
        """Keep the logs of the last few that ended, and nothing of one that was deleted."""
        uid, version = replica.folder.uid, replica.record.version
        if replica.record.deleted:
            self._forget(replica)
        ended = [r for r in self._of(uid, version) if r.phase is Phase.ENDED]
        ended.sort(key=lambda r: r.record.ended_at or 0.0, reverse=True)
        for old in ended[self._options.history :]:
            self._forget(old)
        self._tidy()

    def _forget(self, replica: LocalReplica) -> None:
        uid = replica.folder.uid
        self._replicas.get(uid, {}).pop(replica.record.id, None)
        replica.folder.remove()
        if not self._replicas.get(uid):
            self._replicas.pop(uid, None)
            shutil.rmtree(replica.folder.path.parent, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove the models that no replica needs any more."""
        digests = [replica.record.model_digest for replica in self._all()]
        needed = {digest.removeprefix("sha256:") for digest in digests if digest}
        for path in self._models.iterdir():
            # What has a dot before its name is a pull under way, if there is anyone to pull.
            if path.name not in needed and not (needed and path.name.startswith(".")):
                shutil.rmtree(path, ignore_errors=True)

    def _observed(self, replica: LocalReplica) -> Replica:
        record, phase = replica.record, replica.phase
        return Replica(
            id=record.id,
            version=record.version,
            template_digest=record.template_digest,
            phase=phase,
            host=record.host,
            port=record.port,
            restarts=replica.restarts,
            started_at=datetime.fromtimestamp(record.created_at, UTC),
            ready_since=datetime.fromtimestamp(record.ready_since, UTC)
            if phase is Phase.READY and record.ready_since
            else None,
            failure=record.failure,
            usage=self._meter.usage(replica.shim) if replica.shim else None,
        )


def _is_uid(path: Path) -> bool:
    try:
        return str(UUID(path.name)) == path.name
    except ValueError:
        return False
