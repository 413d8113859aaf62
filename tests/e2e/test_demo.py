"""The README's first command, as a user runs it: on this machine, and on a real broker and a real node."""

import subprocess
import sys

import pytest

from tests.servers import go, images, kafka, packages


def run(*argv: str) -> str:
    command = [sys.executable, "-m", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd="/", check=False)
    failed = "\n".join(line for line in done.stdout.splitlines() if "✗" in line)
    if done.returncode or failed:
        pytest.fail(f"{failed}\n{done.stdout[-8000:]}{done.stderr[-3000:]}")
    return done.stdout


def test_demo_holds_every_check_and_leaves_nothing() -> None:
    run("deploy.demo")


@pytest.mark.kafka
@pytest.mark.kubernetes
def test_demo_on_kafka_and_kubernetes() -> None:
    packages.require(packages.NODE)
    for needed in (
        kafka.jars,
        images.MODEL_SERVER.archive,
        *(each.built for each in (go.KUBERNETES, go.KUBELET, go.HELM)),
    ):
        needed()
    said = run("tests.servers", "run", "kafka", "node", "--", sys.executable, "-m", "deploy.demo")
    assert "no object on the cluster" in said
