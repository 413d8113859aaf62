"""That the node is a real one: what the tests on it rely on, and that nothing of it outlives the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from shared.process import Identity, processes
from tests.servers import images
from tests.servers.node import Node
from tests.servers.pods import Pods, container, pod_spec
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("node")]


@pytest.fixture
def pods(real_node: Node) -> Iterator[Pods]:
    real_node.load(images.REPLICA)
    found = Pods(real_node.plane, f"test-{uuid4().hex[:8]}")
    yield found
    found.remove()


def get(address: str, path: str) -> httpx.Response:
    return httpx.get(f"http://{address}:8080{path}", trust_env=False, timeout=5)


async def test_replicas_become_ready_answer_and_speak(real_node: Node, pods: Pods) -> None:
    labels = {"app": "replica"}
    path = f"/apis/apps/v1/namespaces/{pods.namespace}/deployments/replica"
    template = {"metadata": {"labels": labels}, "spec": pod_spec(container(images.REPLICA.reference))}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "replica"}, "spec": spec}
    admin = real_node.plane.admin

    admin.apply(path, body)

    await until(lambda: admin.call("GET", path)["status"].get("readyReplicas") == 2, within=30)
    found = admin.call("GET", pods.path("pods"))["items"]
    for pod in found:
        assert get(pod["status"]["podIP"], "/say?ahoy").status_code == 200
        await until(partial(said, pods, pod["metadata"]["name"], "serving\nahoy\n"))
    assert len({pod["status"]["podIP"] for pod in found}) == 2


def said(pods: Pods, name: str, words: str) -> bool:
    return pods.log(name) == words


async def test_an_unready_replica_is_seen(pods: Pods) -> None:
    pods.start("sick", container(images.REPLICA.reference))
    get(await pods.address("sick"), "/sick")

    def unready() -> bool:
        return any(
            each["type"] == "Ready" and each["status"] == "False" for each in pods.get("sick")["status"]["conditions"]
        )

    await until(unready, within=15)


async def test_a_memory_hog_is_killed(pods: Pods) -> None:
    pods.start("hog", container(images.REPLICA.reference, memory="64Mi"), restartPolicy="Never")
    address = await pods.address("hog")

    with pytest.raises(httpx.HTTPError):
        get(address, "/eat?128")

    ended = await pods.ended("hog")
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_a_crash_is_started_again_at_once(pods: Pods) -> None:
    """By default only after ten seconds, then twenty."""
    pods.start("crash", container(images.REPLICA.reference))
    address = await pods.address("crash")
    for restarts in (1, 2, 3):
        with pytest.raises(httpx.HTTPError):
            get(address, "/crash?7")

        def again(restarts: int = restarts) -> bool:
            status = pods.get("crash")["status"]["containerStatuses"][0]
            return bool(status["restartCount"] == restarts and status["ready"])

        await until(again, within=8)
    assert (await pods.ended("crash"))["exitCode"] == 7
    assert pods.log("crash", previous="true") == "serving\nthe end is near\n"


async def test_nothing_outlives_a_killed_test(tmp_path: Path) -> None:
    """Not a container, not a cable: their end is the kernel's business, not that of somebody who tidies up."""
    run = (
        f"kubectl run it --image={images.SANDBOX.reference} && kubectl wait pod/it --for=condition=Ready --timeout=30s"
    )
    user = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
        [sys.executable, "-m", "tests.servers", "run", "node", "--", "sh", "-c", f"{run} && echo up && sleep 100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        text=True,
    )
    try:
        assert user.stdout is not None
        said = next((line for line in user.stdout if line == "up\n"), None)
        assert said, user.communicate()[1]
        machine = descendants(user.pid)
        for each in ("kubelet", "containerd ", "containerd-shim", "tail -f /dev/null"):
            assert any(each in command(pid) for pid in machine), each
    finally:
        os.killpg(user.pid, signal.SIGKILL)
        user.communicate()

    await until(lambda: not any(Identity.of(pid) == known for pid, known in machine.items()))


def descendants(ancestor: int) -> dict[int, Identity | None]:
    parents = {pid: found.parent for pid, found in processes()}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: Identity.of(pid) for pid in found - {ancestor}}


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
