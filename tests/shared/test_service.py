"""How a service's process is run."""

import subprocess
import sys
from pathlib import Path

READER = """
import ctypes, os, signal
from shared.service import run

if os.getuid() == 0:  # who may read everything
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which changing the user has cleared
begin, beginning = os.pipe()
begun, running = os.pipe()

def create():
    os.write(running, b".")
    signal.pause()

service = os.fork()
if service == 0:
    os.read(begin, 1)
    run("test", create)

def readable():
    try:
        return bool(open(f"/proc/{service}/environ").read())
    except PermissionError:
        return False

try:
    before = readable()
    os.write(beginning, b".")
    os.read(begun, 1)
    print(before, readable())
finally:
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)
"""


def test_another_process_of_the_same_user_cannot_read_its_environment() -> None:
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", READER], check=False, cwd=root, capture_output=True, text=True, timeout=30
    )
    assert told.stdout == "True False\n", told.stderr
