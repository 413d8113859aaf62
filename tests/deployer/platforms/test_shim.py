"""The shim by itself: what it writes of what it is fed, and that nothing a process does hurts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.deployer.platforms.local import shim
from services.deployer.platforms.local.logs import last_lines
from shared.process import stat


def start(folder: Path, *argv: str, **options: object) -> subprocess.Popen[bytes]:
    order = {
        "steps": [{"name": "serve", "argv": list(argv), "env": {}, "unless": None}],
        "env": {"PATH": os.environ["PATH"]},
        "cwd": str(folder),
        "memory": 0,
        "grace": 5.0,
        "log_bytes": 1 << 20,
        "log_files": 3,
        **options,
    }
    process = subprocess.Popen([sys.executable, "-I", "-S", shim.__file__, folder], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(json.dumps(order).encode())
    return process


def run(folder: Path, *argv: str, **options: object) -> int:
    return start(folder, *argv, **options).wait(20)


def state(folder: Path) -> dict:
    return json.loads((folder / "state.json").read_text())


def texts(folder: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in last_lines(folder, 1000)]


def until(folder: Path, text: str) -> None:
    end = time.monotonic() + 10
    while not (folder / "out.log").exists() or text not in (folder / "out.log").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_lines_are_stamped_and_made_text(tmp_path: Path) -> None:
    script = r"import os; os.write(1, b'caf\xc3\xa9\r\n\n\x00\xff\x1b[1m bold\tend\nerr'); os.write(2, b'or')"
    assert run(tmp_path, sys.executable, "-c", script) == 0
    assert texts(tmp_path) == ["café", "", r"\x00\xff\x1b[1m bold" + "\tend", "error"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
    assert all(re.match(stamp, line) for line in (tmp_path / "out.log").read_text().splitlines())


def test_a_long_line_is_cut_and_the_next_is_whole(tmp_path: Path) -> None:
    assert run(tmp_path, sys.executable, "-c", "print('x' * 1_000_000); print('next')") == 0
    long, following = texts(tmp_path)
    assert following == "next"
    assert long == "x" * shim.LINE + " … (cut)"


def test_logs_are_rotated_and_bounded(tmp_path: Path) -> None:
    script = "for n in range(20000): print(n)"
    assert run(tmp_path, sys.executable, "-c", script, log_bytes=50_000) == 0
    sizes = [path.stat().st_size for path in tmp_path.glob("out.log*")]
    assert len(sizes) == 3
    assert max(sizes) <= 50_000
    numbers = [int(text) for text in texts(tmp_path)]
    assert numbers == list(range(20000 - len(numbers), 20000))


def test_a_flood_does_not_stop_it_from_ending(tmp_path: Path) -> None:
    process = start(tmp_path, "yes", log_bytes=100_000)
    until(tmp_path, " y")
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert state(tmp_path)["stopped"]


def test_a_process_may_close_its_output(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "echo bye; exec >&- 2>&-; sleep 0.5; exit 4")
    until(tmp_path, "bye")
    before = stat(process.pid)
    assert process.wait(10) == 4
    assert before is not None
    assert before.cpu < 0.4, "it does not spin"


def test_how_a_run_ended(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "kill -SEGV $$") == 128 + signal.SIGSEGV
    assert state(tmp_path)["exit_code"] == 139
    assert state(tmp_path)["phase"] == "exited"


def test_the_steps_stop_at_the_first_that_fails(tmp_path: Path) -> None:
    steps = [
        {"name": "there", "argv": ["false"], "env": {}, "unless": str(tmp_path)},
        {"name": "pull", "argv": ["sh", "-c", "echo pulling; exit 66"], "env": {}, "unless": None},
        {"name": "serve", "argv": ["echo", "serving"], "env": {}, "unless": None},
    ]
    assert run(tmp_path, steps=steps) == 66
    assert (state(tmp_path)["step"], texts(tmp_path)) == ("pull", ["pulling"])


def test_what_a_step_is_told_alone_the_next_does_not_know(tmp_path: Path) -> None:
    say = ["sh", "-c", "echo $ALL $ONE"]
    steps = [
        {"name": "pull", "argv": say, "env": {"ONE": "signed"}, "unless": None},
        {"name": "serve", "argv": say, "env": {}, "unless": None},
    ]
    assert run(tmp_path, steps=steps, env={"PATH": os.environ["PATH"], "ALL": "both"}) == 0
    assert texts(tmp_path) == ["both signed", "both"]


def test_term_during_the_first_step_ends_the_run(tmp_path: Path) -> None:
    steps = [
        {"name": name, "argv": ["sh", "-c", f"echo {name}; sleep 100"], "env": {}, "unless": None} for name in "ab"
    ]
    process = start(tmp_path, steps=steps)
    until(tmp_path, "a")
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert texts(tmp_path) == ["a"]


def test_memory_that_processes_share_is_counted_once(tmp_path: Path) -> None:
    script = """
import os, time
block = bytearray(b"x") * (60 << 20)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
print("forked", flush=True)
time.sleep(1)
"""
    assert run(tmp_path, sys.executable, "-c", script, memory=150 << 20) == 0


def test_no_core_is_dumped_and_the_shim_is_small(tmp_path: Path) -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)); import time; time.sleep(100)"
    process = start(tmp_path, sys.executable, "-uc", script)
    until(tmp_path, "(0, 0)")
    found = stat(process.pid)
    assert found is not None
    assert found.memory < 20 << 20
    process.terminate()
    process.wait(10)


def test_a_disk_that_is_full_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out.log").symlink_to("/dev/full")
    assert run(tmp_path, sys.executable, "-c", "for n in range(1000): print(n)") == 0
    assert state(tmp_path)["exit_code"] == 0
