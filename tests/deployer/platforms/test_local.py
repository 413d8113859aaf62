"""What only the local platform must withstand: its own death at any moment, and what processes of a machine can do."""

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.deployer.platforms import Cause, Model, Phase, PlatformError, Resources, Workload
from services.deployer.platforms.local import LocalPlatform, health, platform, replica, shutdown
from shared.process import Process, stat
from shared.secrets import Vault
from tests.deployer.platforms.conftest import OPTIONS, VAULT, LocalWorld, traces
from tests.deployer.platforms.world import (
    ask,
    drive,
    eventually,
    gone,
    present,
    ready,
    settled,
    tell,
    template,
    workload,
)

OWNER = """
import asyncio, json, sys
from pathlib import Path
from uuid import UUID
from services.deployer.platforms.local import LocalPlatform
from shared.secrets import Vault
from tests.deployer.platforms.world import drive, workload

async def main():
    async with LocalPlatform(Path(sys.argv[1]), str, vault=Vault(bytes(32))) as platform:
        print("up", flush=True)
        await drive(platform, workload(3, uid=UUID(sys.argv[2])))
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    world = LocalWorld(tmp_path / "replicas")
    await world.platform.start()
    try:
        yield world
    finally:
        uids = await world.platform.deployments()
        for uid in uids:
            await world.platform.delete(uid)
        for uid in uids:
            await gone(world, uid)
            assert world.leftovers(uid) == []
        assert [path.name for path in world.root.iterdir() if path.is_dir()] == ["models"]
        await world.platform.close()


@asynccontextmanager
async def owned(root: Path, wanted: Workload, *, until: str) -> AsyncIterator[Process]:
    """Another process that owns the platform and drives `wanted`."""
    output = root.with_suffix(".out")
    owner = await Process.start(
        [sys.executable, "-c", OWNER, root, str(wanted.uid)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        output=output,
    )
    try:
        async with asyncio.timeout(15):
            while until not in output.read_text():
                assert owner.alive(), output.read_text()
                await asyncio.sleep(0.005)
        yield owner
    finally:
        await owner.kill()


def shims(root: Path) -> list[int]:
    """The pids of the shims that have not written down their end."""
    states = [json.loads(path.read_text()) for path in root.glob("*/*/run-*/state.json")]
    return [state["pid"] for state in states if "ended_at" not in state]


async def test_replicas_outlive_a_killed_deployer(tmp_path: Path) -> None:
    root, wanted = tmp_path / "replicas", workload(3)
    async with owned(root, wanted, until="ready") as owner:
        before = {pid: stat(pid) for pid in shims(root)}
        await owner.kill()
    world = LocalWorld(root)
    await world.platform.start()
    found = await world.platform.observe(wanted.uid)
    assert [r.phase for r in found] == [Phase.READY] * 3
    victim, *others = found
    pids = [await ask(r) for r in others]
    await tell(victim, "/crash?9")
    await drive(world.platform, wanted, lambda rs: settled(wanted)(rs) and rs[0].restarts == 1)
    assert [await ask(r) for r in others] == pids
    assert len(before) == 3
    assert len([pid for pid in before if (now := stat(pid)) and now.alive]) == 2
    await world.platform.delete(wanted.uid)
    await gone(world, wanted.uid)
    assert world.leftovers(wanted.uid) == []
    await world.platform.close()


@pytest.mark.parametrize("seed", range(4))
async def test_a_deployer_killed_while_it_starts_replicas_leaves_none_twice(tmp_path: Path, seed: int) -> None:
    root, wanted = tmp_path / "replicas", workload(3)
    async with owned(root, wanted, until="up") as owner:
        await asyncio.sleep(random.Random(seed).uniform(0, 0.06))
        await owner.kill()
    world = LocalWorld(root)
    await world.platform.start()
    replicas = await drive(world.platform, wanted)
    assert len({await ask(r) for r in replicas}) == 3
    assert len([trace for trace in world.leftovers(wanted.uid) if trace.startswith("process")]) == 6, "shim and server"
    await world.platform.delete(wanted.uid)
    await gone(world, wanted.uid)
    assert world.leftovers(wanted.uid) == []
    await world.platform.close()


async def test_a_crash_while_the_deployer_is_away_is_an_observed_exit(local: LocalWorld) -> None:
    wanted = workload()
    (before,) = await drive(local.platform, wanted)
    await local.platform.close()
    await tell(before, "/crash?9")
    local.platform = LocalPlatform(local.root, str, vault=VAULT, options=OPTIONS)
    async with asyncio.timeout(10):
        while shims(local.root):  # noqa: ASYNC110 - nobody is there to tell
            await asyncio.sleep(0.02)
    await local.platform.start()
    (found,) = await local.platform.observe(wanted.uid)
    assert found.failure is not None
    assert (found.failure.cause, found.failure.evidence.exit_code) == (Cause.CRASH, 9)
    assert found.phase is Phase.STARTING
    await drive(local.platform, wanted)


async def test_a_killed_shim_takes_its_processes_along_and_is_replaced(local: LocalWorld) -> None:
    wanted = workload()
    (before,) = await drive(local.platform, wanted)
    server, daemon = int(await ask(before)), int(await ask(before, "/daemon"))
    (shim,) = shims(local.root)
    os.kill(shim, signal.SIGKILL)
    (after,) = await eventually(local.platform, wanted.uid, lambda rs: rs[0].restarts == 1 and bool(ready(rs)))
    assert int(await ask(after)) != server
    assert not any((found := stat(pid)) and found.alive for pid in (server, daemon))


async def test_what_a_server_leaves_running_ends_with_it(local: LocalWorld) -> None:
    wanted = workload()
    (found,) = await drive(local.platform, wanted)
    daemon = int(await ask(found, "/daemon"))
    await tell(found, "/crash")
    await eventually(local.platform, wanted.uid, lambda rs: rs[0].restarts == 1)
    assert not ((now := stat(daemon)) and now.alive)


async def test_a_deaf_replica_is_started_again(local: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "UNRESPONSIVE", 0.5)
    monkeypatch.setattr(health, "PROBE_DEADLINE", 0.2)
    monkeypatch.setattr(health, "RUNNING_PERIOD", 0.1)
    wanted = workload(template=replace(template(), grace_seconds=0.2))
    (before,) = await drive(local.platform, wanted)
    os.kill(int(await ask(before)), signal.SIGSTOP)
    watched = await eventually(local.platform, wanted.uid, lambda rs: rs[0].failure is not None)
    assert watched[0].failure is not None
    assert watched[0].failure.cause is Cause.PROBE
    await eventually(local.platform, wanted.uid, lambda rs: rs[0].restarts == 1 and bool(ready(rs)))


async def test_a_stubborn_replica_is_killed_after_its_grace(local: LocalWorld) -> None:
    wanted = workload(template=replace(template(STUBBORN="1"), grace_seconds=0.3))
    await drive(local.platform, wanted)
    await local.platform.delete(wanted.uid)
    await gone(local, wanted.uid, deadline=3)


async def test_a_port_that_was_taken_meanwhile_is_exchanged(local: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "backoff", lambda *_, **__: 1.0)
    wanted = workload()
    (before,) = await drive(local.platform, wanted)
    await tell(before, "/crash")
    await eventually(local.platform, wanted.uid, lambda rs: rs[0].failure is not None)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((before.host, before.port))
        thief.listen()
        (after,) = await eventually(local.platform, wanted.uid, lambda rs: rs[0].restarts == 1 and bool(ready(rs)))
        assert after.port != before.port


async def test_a_command_that_does_not_exist(local: LocalWorld) -> None:
    wanted = workload(template=replace(template(), command=("no-such-program",)))
    (found,) = await drive(local.platform, wanted, lambda rs: rs[0].failure is not None)
    assert found.failure is not None
    assert found.failure.evidence.exit_code == 127
    assert "no-such-program" in found.failure.evidence.log[-1]


async def test_without_a_gpu_there_is_no_place_for_it(local: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "has_gpu", lambda: False)
    wanted = workload(template=replace(template(), resources=Resources(gpu=1)))
    (found,) = await drive(local.platform, wanted, lambda rs: rs[0].phase is Phase.FAILED)
    assert found.failure is not None
    assert found.failure.cause is Cause.UNSCHEDULABLE


async def test_only_one_process_owns_the_replicas(local: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "LOCK_PATIENCE", 0.2)
    with pytest.raises(PlatformError, match="another process"):
        await LocalPlatform(local.root, str, vault=VAULT).start()


async def test_no_secret_touches_the_disk(local: LocalWorld) -> None:
    wanted = workload(template=replace(template(), secrets={"PASSWORD": "correct horse battery staple"}))
    (found,) = await drive(local.platform, wanted)
    assert "battery" in await ask(found, "/env")
    files = [path for path in local.root.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert any(path.name == "workload.sealed" for path in files)
    assert [path for path in files if b"battery" in path.read_bytes()] == []
    assert "battery" not in repr(wanted)


async def test_the_last_few_ended_replicas_keep_their_logs(local: LocalWorld) -> None:
    wanted = workload()
    for number in range(5):
        wanted = replace(wanted, template=template(str(number)))
        await drive(local.platform, wanted)
    ended = [r for r in await local.platform.observe(wanted.uid) if r.phase is Phase.ENDED]
    kept = [[line async for line in local.platform.logs(wanted.uid, r.id)] for r in ended]
    assert [[line.split(" ", 1)[1] for line in log] for log in kept] == [[f"serving {n}", "drained"] for n in (1, 2, 3)]


async def test_what_cannot_be_read_is_ended_and_removed(local: LocalWorld) -> None:
    wanted = workload()
    (before,) = await drive(local.platform, wanted)
    await local.platform.close()
    record = local.root / str(wanted.uid) / before.id / "replica.json"
    record.write_text("{")
    local.platform = LocalPlatform(local.root, str, vault=VAULT, options=OPTIONS)
    await local.platform.start()
    assert await local.platform.observe(wanted.uid) == []
    assert [t for t in traces(local.root, wanted.uid) if t.startswith("process")] == []
    (after,) = present(await drive(local.platform, wanted))
    assert after.id != before.id


async def test_without_the_key_a_run_waits_for_the_deployer_to_tell_what_it_is(local: LocalWorld) -> None:
    wanted = workload()
    (before,) = await drive(local.platform, wanted)
    await local.platform.close()
    local.platform = LocalPlatform(local.root, str, vault=Vault(bytes([1]) * 32), options=OPTIONS)
    await local.platform.start()
    await tell(before, "/crash?9")
    (found,) = await eventually(local.platform, wanted.uid, lambda rs: rs[0].failure is not None)
    assert found.restarts == 0
    await drive(local.platform, wanted)


async def test_after_a_shutdown_a_deployer_starts_them_anew(local: LocalWorld) -> None:
    wanted = workload(2)
    before = await drive(local.platform, wanted)
    await local.platform.close()
    await shutdown(local.root)
    assert [t for t in traces(local.root, wanted.uid) if t.startswith("process")] == []
    local.platform = LocalPlatform(local.root, str, vault=VAULT, options=OPTIONS)
    await local.platform.start()
    found = await local.platform.observe(wanted.uid)
    assert [(r.phase, r.failure) for r in found] == [(Phase.STARTING, None)] * 2, "it is not their fault"
    after = await drive(local.platform, wanted)
    assert {r.id for r in after} == {r.id for r in before}


@pytest.fixture
def artifact(tmp_path: Path) -> tuple[str, str]:
    """A packed model: its digest and its URL."""
    (tmp_path / "weights").write_text("1 2 3")
    path = tmp_path / "model.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "weights", "weights")
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", path.as_uri()


async def pulling(local: LocalWorld, url: str) -> None:
    """Start over with a place to pull from."""
    await local.platform.close()
    local.platform = LocalPlatform(local.root, lambda _: url, vault=VAULT, options=OPTIONS)
    await local.platform.start()


async def test_replicas_share_the_model_they_pull(local: LocalWorld, artifact: tuple[str, str]) -> None:
    digest, url = artifact
    await pulling(local, url)
    made = replace(template("$(MOORAGE_MODEL_PATH)", "$(KUBEFLOW_MODEL_PATH)"), model=Model("fraud", 1, digest))
    wanted = workload(2, template=made)
    replicas = await drive(local.platform, wanted)
    path = local.root / "models" / digest.removeprefix("sha256:")
    assert (path / "weights").read_text() == "1 2 3"
    for found in replicas:
        said = [line async for line in local.platform.logs(wanted.uid, found.id)]
        assert said[-1].endswith(f" serving {path} {path}")
    await local.platform.delete(wanted.uid)
    await gone(local, wanted.uid)
    assert list((local.root / "models").iterdir()) == []


async def test_only_the_pull_knows_the_signed_address_and_no_command_line_shows_it(
    local: LocalWorld, artifact: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, url = artifact
    orders = []

    def noted(*given: object, **more: object) -> dict:
        orders.append(order(*given, **more))
        return orders[-1]

    order = replica.order
    monkeypatch.setattr(replica, "order", noted)
    await pulling(local, url)
    wanted = workload(template=replace(template(), model=Model("fraud", 1, digest)))
    (found,) = await drive(local.platform, wanted)
    assert url not in (await ask(found, "/env"))
    (told,) = orders
    assert url not in json.dumps([step["argv"] for step in told["steps"]])
    assert [step["env"] for step in told["steps"]] == [{"MOORAGE_MODEL_URL": url}, {}]


async def test_a_model_that_is_not_what_it_should_be(local: LocalWorld, artifact: tuple[str, str]) -> None:
    await pulling(local, artifact[1])
    other = "sha256:" + 64 * "0"
    wanted = workload(template=replace(template(), model=Model("fraud", 1, other)))
    (found,) = await drive(local.platform, wanted, lambda rs: rs[0].phase is Phase.FAILED)
    assert found.failure is not None
    assert found.failure.cause is Cause.MODEL_DOWNLOAD
    assert other in found.failure.message


async def test_children_of_a_replica_count_for_its_memory(local: LocalWorld) -> None:
    eater = "import time; x = bytearray(b'x') * (200 << 20); time.sleep(1000)"
    shell = replace(
        template(), command=("sh", "-c"), args=(f'python3 -c "{eater}" & wait',), resources=Resources(memory=64 << 20)
    )
    wanted = workload(template=shell)
    (found,) = await drive(local.platform, wanted, lambda rs: rs[0].failure is not None)
    assert found.failure is not None
    assert found.failure.cause is Cause.OUT_OF_MEMORY
