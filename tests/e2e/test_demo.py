"""The README's first command, as a user runs it."""

import subprocess
import sys


def test_demo_holds_every_check_and_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"], capture_output=True, text=True, timeout=300, cwd="/", check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-3000:]
    assert "✗" not in done.stdout
