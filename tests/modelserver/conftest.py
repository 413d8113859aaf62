"""Real model servers: each test starts the processes it needs, on a free port, and none outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0


def until(condition: Callable[[], Any], *, what: str) -> Any:
    """Wait for `condition` and return what it gave."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)
    return value


@dataclass
class Replica:
    """A model server process."""

    process: subprocess.Popen[bytes]
    log_path: Path
    termination_path: Path
    client: httpx.Client

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def termination(self) -> dict[str, str]:
        message: dict[str, str] = json.loads(self.termination_path.read_text())
        return message

    def predict(self, request: Any, path: str = "/predict", **options: Any) -> httpx.Response:
        return self.client.post(path, json=request, **options)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        return self.process.wait(DEADLINE)


Serve = Callable[..., Replica]


@pytest.fixture(scope="package")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`serve(code or folder, ready=True, **settings)` starts a replica."""
    replicas: list[Replica] = []

    def start(model: str | Path, *, ready: bool = True, listening: bool = True, **settings: object) -> Replica:
        home = tmp_path_factory.mktemp("replica")
        if isinstance(model, str):
            (home / "model").mkdir()
            (home / "model" / "inference_service.py").write_text(model)
            model = home / "model"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "MOORAGE_MODEL_PATH": str(model),
            "MOORAGE_MODEL_NAME": "churn",
            "MOORAGE_MODEL_VERSION": "3",
            "MOORAGE_PORT": "0",
            "MOORAGE_TERMINATION_LOG": str(home / "termination.json"),
            "OMP_NUM_THREADS": "1",
            **{f"MOORAGE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log_path = home / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "modelserver"], cwd=home, env=environment, stdout=log, stderr=log
            )
        replica = Replica(process, log_path, home / "termination.json", httpx.Client(timeout=DEADLINE))
        replicas.append(replica)
        if listening:
            replica.client.base_url = f"http://127.0.0.1:{until(lambda: port_of(replica), what='it listens')}"
        if ready and listening:
            until(lambda: replica.client.get("/readyz").status_code == 200, what="it is ready")
        return replica

    yield start
    for replica in replicas:
        replica.client.close()
        if replica.process.poll() is None:
            replica.process.kill()
            replica.process.wait()


def port_of(replica: Replica) -> str | None:
    """The port of the log's first line: with port 0 the system chooses."""
    lines = [line for line in replica.log.splitlines() if " listening on " in line]
    return lines[0].rpartition(" ")[2] if lines else None


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, trained: folders v1 and v2."""
    out = tmp_path_factory.mktemp("trained")
    subprocess.run([sys.executable, str(ROOT / "examples/breast_cancer/train.py"), "--out", str(out)], check=True)
    return out


@pytest.fixture(scope="package")
def example(serve: Serve, trained: Path) -> Replica:
    """The example's first variant, served; it loads scikit-learn, so there is one for all."""
    return serve(trained / "v1" / "model")
