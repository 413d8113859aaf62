"""Supervised processes, with real ones."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.process import Identity, Process, probe_http, probe_tcp, stat

ENV = {"PATH": os.environ["PATH"]}


async def printed(path: Path, text: str) -> str:
    end = time.monotonic() + 10
    while text not in (found := path.read_text()):  # noqa: ASYNC240 - a few bytes
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    return found


async def test_it_runs_in_a_session_of_its_own_and_tells_its_exit_code(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = await Process.start(
        ["sh", "-c", "cat; echo $NAME; pwd; ps -o sid= $$; exit 5"],
        env={**ENV, "NAME": "value"},
        cwd=tmp_path,
        stdin=b"fed\n",
        output=output,
    )
    assert await process.wait() == 5
    assert await process.wait() == 5
    assert not process.alive()
    assert output.read_text().split() == ["fed", "value", str(tmp_path), str(process.pid)]
    assert output.stat().st_mode & 0o777 == 0o600


async def test_an_ended_child_is_no_zombie(tmp_path: Path) -> None:
    process = await Process.start(["true"], env=ENV)
    await process.wait()
    assert stat(process.pid) is None


async def test_what_does_not_exist_cannot_be_started() -> None:
    with pytest.raises(FileNotFoundError):
        await Process.start(["no-such-program"], env=ENV)


async def test_a_signal_is_a_negative_exit_code() -> None:
    process = await Process.start(["sleep", "100"], env=ENV)
    process.send(signal.SIGINT)
    assert await process.wait() == -signal.SIGINT
    process.send(signal.SIGINT)  # absent is success


async def test_several_may_wait() -> None:
    process = await Process.start(["sleep", "0.1"], env=ENV)
    assert await asyncio.gather(process.wait(), process.wait(), process.wait()) == [0, 0, 0]


async def test_waiting_can_be_given_up() -> None:
    process = await Process.start(["sleep", "100"], env=ENV)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.05)
    assert process.alive()
    await process.kill()


async def test_terminating_asks_first_and_is_quick_when_it_obeys(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = await Process.start(["sh", "-c", "trap 'exit 3' TERM; echo on; sleep 100 & wait"], env=ENV, output=output)
    await printed(output, "on")
    began = time.monotonic()
    assert await process.terminate(grace=10) == 3
    assert time.monotonic() - began < 5


async def test_terminating_kills_what_does_not_obey_and_all_it_started(tmp_path: Path) -> None:
    output = tmp_path / "out"
    script = "trap '' TERM; sleep 100 & sleep 100 & echo $! on; while :; do sleep 1; done"
    process = await Process.start(["sh", "-c", script], env=ENV, output=output)
    child = int((await printed(output, "on")).split()[0])
    assert await process.terminate(grace=0.1) == -signal.SIGKILL
    assert not ((found := stat(child)) and found.alive)


async def test_children_that_stay_behind_are_killed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = await Process.start(["sh", "-c", "sleep 100 & echo $! on"], env=ENV, output=output)
    child = int((await printed(output, "on")).split()[0])
    await process.wait()
    await process.terminate(grace=1)
    assert not ((found := stat(child)) and found.alive)


async def test_a_strangers_child_is_adopted_waited_for_and_ended(tmp_path: Path) -> None:
    output = tmp_path / "out"
    parent = await Process.start(["sh", "-c", "setsid sleep 100 & echo $! on; wait"], env=ENV, output=output)
    identity = Identity.of(int((await printed(output, "on")).split()[0]))
    assert identity is not None
    process = Process.adopt(identity)
    assert process is not None
    waiting = asyncio.create_task(process.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert await process.terminate(grace=5) is None
    assert await waiting is None
    assert not process.alive()
    await parent.kill()


async def test_a_pid_with_another_start_time_is_somebody_else() -> None:
    process = await Process.start(["sleep", "100"], env=ENV)
    stranger = Identity(process.pid, process.identity.start_time + 1)
    assert Process.adopt(stranger) is None
    impostor = Process(stranger, child=False)
    assert await impostor.terminate(grace=0) is None
    assert process.alive()
    await process.kill()


async def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    output = tmp_path / "out"
    # Held: a Popen that is let go of reaps its child on its own end.
    script = "import subprocess, time; p = subprocess.Popen(['true']); print(p.pid, 'on', flush=True); time.sleep(100)"
    parent = await Process.start([sys.executable, "-c", script], env=ENV, output=output)
    pid = int((await printed(output, "on")).split()[0])
    async with asyncio.timeout(5):
        while Identity.of(pid) is not None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert stat(pid) is not None
    await parent.kill()


async def test_a_name_full_of_brackets_is_read(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    process = await Process.start([program, "100"], env=ENV)
    found = stat(process.pid)
    assert found is not None
    assert (found.parent, found.session) == (os.getpid(), process.pid)
    await process.kill()


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers each connection with the next of the list; with None for ever."""
    answers: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.append(await reader.readline())
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1], answers


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.0 503\r\n\r\n", 503),
        (b"SSH-2.0 200 no\r\n", None),
        (b"\r\n", None),
        (b"x" * 100_000, None),
        (b"", None),
    ],
)
async def test_an_http_probe_tells_the_status(
    server: tuple[int, list[bytes]], answer: bytes, status: int | None
) -> None:
    port, answers = server
    answers.append(answer)
    assert await probe_http("127.0.0.1", port, "/x", deadline=5) == status


async def test_a_probes_path_cannot_hold_a_second_request(server: tuple[int, list[bytes]]) -> None:
    port, answers = server
    answers.append(b"HTTP/1.1 200 OK\r\n\r\n")
    await probe_http("127.0.0.1", port, "/a b\r\nX: y?q=1", deadline=5)
    assert answers == [b"GET /a%20b%0D%0AX:%20y?q=1 HTTP/1.1\r\n"]


async def test_probes_have_a_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert not await probe_tcp("127.0.0.1", port, deadline=1)
        assert await probe_http("127.0.0.1", port, "/", deadline=1) is None
        silent.listen()
        assert await probe_tcp("127.0.0.1", port, deadline=1)
        began = time.monotonic()
        assert await probe_http("127.0.0.1", port, "/", deadline=0.2) is None
        assert time.monotonic() - began < 2
