"""Kills processes at seeded points of the main job and checks that the world is right afterwards.

    python -m tests.chaos.rounds --rounds 200 --seed 1

A round runs the main job of one deployment through the front door while another thread kills (-9) services, Envoy and
PostgreSQL at random moments; the supervisor restarts them. The job's client repeats what was refused or cut off, as a
good client does, with idempotency keys. Afterwards: the job has ended right, history has each change once, each change
its event once, no replica runs twice or as an orphan, and calls to a second, running model failed only while Envoy
itself was dead.
"""

import argparse
import asyncio
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.support.platform import RunningPlatform, running_platform, wait_until

VICTIMS = ("registry", "deployer", "gateway", "metrics", "postgres", "envoy", "snapshot")
PATIENCE = 90.0


class Killer:
    """Kills a random victim every so often; remembers when Envoy was away, since calls may fail then."""

    def __init__(self, platform: RunningPlatform, chance: random.Random, victims: tuple[str, ...]) -> None:
        self.killed: list[str] = []
        self.envoy_deaths: list[float] = []
        self._platform = platform
        self._chance = chance
        self._victims = victims
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._chance.uniform(0.1, 2.0)):
            victim = self._chance.choice(self._victims)
            if victim == "envoy":
                self.envoy_deaths.append(time.monotonic())
            self._platform.kill(victim)
            self.killed.append(victim)


class Bystander:
    """Calls a running model all the time; `failures` are the times at which a call did not answer 200."""

    def __init__(self, platform: RunningPlatform, token: str) -> None:
        self.calls = 0
        self.failures: list[tuple[float, str]] = []
        self._url = f"{platform.here.url}/predict/bystander/1"
        self._auth = ("chaos", token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(self._url, json={}, auth=self._auth)
                    found = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
                except httpx.HTTPError as error:
                    found = repr(error)
                self.calls += 1
                if found:
                    self.failures.append((began, found))
                    time.sleep(0.02)


def persist(call: Callable[[], httpx.Response], *, accept: tuple[int, ...] = ()) -> httpx.Response:
    """Repeat a call until it is answered by the API itself; a 5xx or a cut connection is not an answer."""

    def answered() -> httpx.Response | None:
        answer = call()
        if answer.is_success or answer.status_code in accept:
            return answer
        assert answer.status_code >= 500 or answer.status_code == 429, answer.text
        return None

    found = wait_until(answered, within=PATIENCE, what="an answer")
    assert isinstance(found, httpx.Response)
    return found


def main_job(platform: RunningPlatform, name: str) -> list[str]:
    """Create, add a version, shift, scale, stop, start, roll back; the update messages that history must show."""
    api, messages = platform.api, []

    def post(path: str, body: dict[str, Any]) -> httpx.Response:
        key = f"{name}-{len(messages)}"
        messages.append(key)
        return persist(lambda: api.post(path, json=body | {"message": key}, headers={"Idempotency-Key": key}))

    def patch(path: str, body: dict[str, Any]) -> None:
        # A merge patch is idempotent: a second one that finds it done makes no revision.
        messages.append(f"{name}-{len(messages)}")
        persist(lambda: api.patch(path, json=body | {"message": messages[-1]}))

    version = {
        "model": "chaos/whoami/1",
        "runtime": "inference",
        "instance_type": "tiny",
        "replicas": {"min": 1, "max": 1},
    }
    post("/deployments", {"id": name, "group": "chaos", "access": "public", "versions": [version]})
    platform.wait_phase(name, "Deployed", within=PATIENCE)
    post(f"/deployments/{name}/versions", version)
    platform.wait_phase(name, "Deployed", within=PATIENCE)
    patch(f"/deployments/{name}", {"traffic": {"weights": {"1": 50, "2": 50}}})
    patch(f"/deployments/{name}/versions/1", {"replicas": {"min": 2, "max": 2}})
    platform.wait_phase(name, "Deployed", within=PATIENCE)
    post(f"/deployments/{name}/stop", {})
    platform.wait_phase(name, "Stopped", within=PATIENCE)
    post(f"/deployments/{name}/start", {})
    post(f"/deployments/{name}/rollback", {"revision": 1})
    platform.wait_phase(name, "Deployed", within=PATIENCE)
    return messages


def check_world(platform: RunningPlatform, name: str, messages: list[str]) -> None:
    """After the job, with nothing being killed any more."""
    answer = persist(lambda: platform.http.post(f"/deployment/{name}/predict", json={}))
    assert answer.json()["code"] == 0, answer.text
    revisions = persist(lambda: platform.api.get(f"/deployments/{name}/revisions?limit=200")).json()["items"]
    told = sorted((revision["number"], revision["message"]) for revision in revisions)
    assert told == list(enumerate(messages, start=1)), told
    document = persist(lambda: platform.api.get(f"/deployments/{name}")).json()
    assert document["revision"] == len(messages)
    replicas = persist(lambda: platform.api.get(f"/deployments/{name}/replicas")).json()["items"]
    living = [replica for replica in replicas if replica["phase"] == "Ready"]
    assert len(living) == 1, replicas
    # Each replica is one shim and one server: twice or orphaned ones would show as more.
    wait_until(
        lambda: len(platform.replica_shims()) == 2, within=60, what="two replicas in all: the job's, the bystander's"
    )


async def check_events(platform: RunningPlatform) -> None:
    """Every accepted change has its event exactly once on the bus, and nothing waits in the outbox."""
    connection = await asyncpg.connect(platform.here.postgres.url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        changes = Counter(
            (str(row["uid"]), row["number"]) for row in await connection.fetch("SELECT uid, number FROM revisions")
        )
        published = Counter(
            (row["subject"], row["generation"])
            for row in await connection.fetch(
                "SELECT event->>'subject' AS subject, (event->'data'->>'generation')::int AS generation"
                " FROM bus_messages WHERE event->>'type' = 'moorage.deployment.changed'"
            )
        )
        assert set(changes.values()) == {1}
        assert changes.keys() <= published.keys(), changes.keys() - published.keys()
        assert set(published.values()) == {1}, [key for key, count in published.items() if count > 1]
        assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await connection.close()


def one_round(platform: RunningPlatform, seed: int, token: str, *, victims: tuple[str, ...] = VICTIMS) -> str:
    """A summary line. Raises AssertionError with what was wrong."""
    name = f"chaos-{seed}"
    with Bystander(platform, token) as bystander, Killer(platform, random.Random(seed), victims) as killer:
        messages = main_job(platform, name)
    platform.wait_ready()
    check_world(platform, name, messages)
    _settle_events(platform)
    persist(lambda: platform.api.delete(f"/deployments/{name}"), accept=(404,))
    wait_until(lambda: len(platform.replica_shims()) == 1, within=60, what="only the bystander's replica")
    answered = [(at, what) for at, what in bystander.failures if what[0].isdigit()]
    assert not answered, (answered[:5], killer.killed)  # Envoy dead cuts a connection; Envoy alive answers 200
    cut = [at for at, _ in bystander.failures if not any(at - 15 <= death <= at + 1 for death in killer.envoy_deaths)]
    assert not cut, (bystander.failures[:5], killer.killed)
    killed = ", ".join(f"{count}x {victim}" for victim, count in sorted(Counter(killer.killed).items()))
    return f"{len(messages)} changes, {bystander.calls} calls, {len(bystander.failures)} while Envoy was away; {killed}"


def _settle_events(platform: RunningPlatform) -> None:
    """The relay may still be at work for a moment."""
    deadline = time.monotonic() + 30
    while True:
        try:
            asyncio.run(check_events(platform))
            return
        except (AssertionError, OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def prepare(platform: RunningPlatform) -> str:
    """The bystander's deployment; its client's token."""
    platform.group("chaos")
    size = {"id": "tiny", "name": "Tiny", "cpu": "100m", "memory": "256Mi"}
    platform.api.post("/instance-types", json=size).raise_for_status()
    platform.model("chaos", "whoami")
    body = {"id": "bystander", "group": "chaos", "model": "chaos/whoami/1", "instance_type": "tiny"}
    platform.api.post("/deployments", json=body).raise_for_status()
    platform.wait_phase("bystander", "Deployed")
    return platform.client_token("bystander", "chaos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the others count up")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="moorage-chaos-") as folder,
        running_platform(Path(folder)) as platform,
    ):
        token = prepare(platform)
        for seed in range(options.seed, options.seed + options.rounds):
            began = time.monotonic()
            print(f"round {seed}: {one_round(platform, seed, token)} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{options.rounds} rounds held")


if __name__ == "__main__":
    main()
