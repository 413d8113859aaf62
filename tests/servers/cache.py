"""Where fetched and built servers are kept between runs, and what happens when one cannot be had."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest


def folder() -> Path:
    return Path(os.environ.get("MOORAGE_TEST_CACHE") or Path.home() / ".cache" / "moorage-tests")


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cached folder `name`, which carries the version; `make` fills an empty one, in one process at a time."""
    ready = folder() / name
    ready.parent.mkdir(parents=True, exist_ok=True)
    with (ready.parent / f"{ready.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            partial = ready.with_name(f"{ready.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(ready)
    return ready


def missing(reason: str) -> NoReturn:
    """Skip, saying why; fail where everything is required."""
    if os.environ.get("MOORAGE_TEST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
