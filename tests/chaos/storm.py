"""Many deployments that are created, changed, scaled, stopped, started, deleted and made anew, each in its own order.

What each does is drawn from a seed. Its client never waits for an end: it repeats what was not answered, and goes on.
Afterwards the API says of each what was asked of it last, the cluster has just that, and Envoy routes to just those.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.cluster import GROUP, Cluster, differences

PATIENCE = 120.0
GOOD, BAD = ("ready", "ready", "ready", "slow-start", "slow-pull"), ("crash", "missing-image", "never-ready")


@dataclass
class Wanted:
    """What one client wants; None when it has deleted it."""

    id: str
    versions: list[dict[str, Any]] | None = None
    stopped: bool = False
    numbers: int = 0
    changes: int = 0

    def body(self) -> dict[str, Any]:
        return {"group": GROUP, "access": "public", "versions": self.versions}


@dataclass
class Storm:
    """`pause` is the longest, in seconds, between two steps of one deployment."""

    cluster: Cluster
    count: int
    seed: int
    steps: int = 6
    pause: float = 2.0
    wanted: list[Wanted] = field(default_factory=list)

    async def rage(self) -> None:
        """Do all of it; return when the last call was answered."""
        api = self.cluster.platform.api
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=api.base_url, headers=api.headers, timeout=30, limits=limits) as client:
            self.wanted += [Wanted(f"s{self.seed}-{number}") for number in range(self.count)]
            await asyncio.gather(
                *(_Client(client, each, self.seed, self.pause).run(self.steps) for each in self.wanted)
            )

    async def clear(self) -> None:
        """Delete what is left; nothing is there then."""
        for each in self.wanted:
            each.versions = None
            answer = self.cluster.platform.api.delete(f"/deployments/{each.id}")
            assert answer.is_success or answer.status_code == 404, answer.text
        await self.settle()

    async def settle(self, *, within: float = PATIENCE) -> float:
        """Seconds until all is as it should be. AssertionError with what is not."""
        began = time.monotonic()
        while wrong := await asyncio.to_thread(self._wrong):
            assert time.monotonic() - began < within, "\n".join([f"{len(wrong)} things wrong:", *wrong[:40]])
            await asyncio.sleep(0.5)
        return time.monotonic() - began

    def _wrong(self) -> Sequence[str]:
        documents = self._documents()
        wrong = []
        for each in self.wanted:
            wrong += _unlike(each, documents.get(each.id))
        if wrong:
            return wrong
        objects = self.cluster.objects()
        if wrong := differences(objects, documents.values()):
            return wrong
        pods = {pod["metadata"]["name"]: f"{pod['status']['podIP']}:8080" for pod in objects["Pod"]}
        told = self._replicas(documents)
        if told != pods:
            wrong += [
                f"the API tells of {sorted(told.items() - pods.items())}, not {sorted(pods.items() - told.items())}"
            ]
        if (routed := self.cluster.endpoints()) != set(pods.values()):
            wrong += [f"Envoy routes to {routed - set(pods.values())}, not to {set(pods.values()) - routed}"]
        return wrong

    def _documents(self) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in self._pages("/deployments")}

    def _replicas(self, documents: dict[str, dict[str, Any]]) -> dict[str, str]:
        return {
            each["id"]: each["address"]
            for name in documents
            for each in self._pages(f"/deployments/{name}/replicas")
            if each["phase"] == "Ready" and each["routable"]
        }

    def _pages(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {"limit": 200}
        while True:
            page = self.cluster.platform.api.get(path, params=parameters).raise_for_status().json()
            found += page["items"]
            if not page.get("next"):
                return found
            parameters["cursor"] = page["next"]


def _unlike(wanted: Wanted, document: dict[str, Any] | None) -> list[str]:
    """How the API's word on a deployment differs from what its client asked for last."""
    if wanted.versions is None or document is None:
        return (
            []
            if wanted.versions is None and document is None
            else [f"{wanted.id} is {'gone' if document is None else 'there'}"]
        )
    status, wrong = document["status"], []
    phase = "Stopped" if wanted.stopped else "Deployed"
    if status["phase"] != phase or status["observed_generation"] != document["generation"]:
        said = [(each["type"], each["reason"], each["message"]) for each in status["conditions"]]
        wrong.append(f"{wanted.id} is {status['phase']}, not {phase}: {said}")
    asked = {each["number"]: (each["replicas"], each["env"]) for each in wanted.versions}
    stored = {each["number"]: (each["replicas"], each["env"]) for each in document["versions"]}
    if asked != stored:
        wrong.append(f"{wanted.id} is stored as {stored}, not {asked}")
    if not wanted.stopped:
        wrong += [
            f"{wanted.id} has {each['ready']} of {each['wanted']} ready"
            for each in status["versions"]
            if each["ready"] < each["wanted"]
        ]
    return wrong


class _Client:
    """Drives one deployment."""

    def __init__(self, http: httpx.AsyncClient, wanted: Wanted, seed: int, pause: float) -> None:
        self._http = http
        self._wanted = wanted
        self._chance = random.Random(f"{seed} {wanted.id}")
        self._pause = pause

    async def run(self, steps: int) -> None:
        await asyncio.sleep(self._chance.uniform(0, 2 * self._pause))
        await self._create()
        moves = (
            self._change,
            self._change,
            self._scale,
            self._scale,
            self._stop_or_start,
            self._add,
            self._drop,
            self._renew,
        )
        for _ in range(steps):
            await asyncio.sleep(self._chance.uniform(0, self._pause))
            await self._chance.choice(moves)()
        await self._chance.choice((self._mend, self._mend, self._mend, self._delete, self._stop_or_start))()
        await self._mend()

    # Moves

    async def _create(self) -> None:
        self._wanted.versions, self._wanted.numbers, self._wanted.stopped = [self._version(1)], 1, False
        await self._put()

    async def _change(self) -> None:
        """Another environment of one version: fresh replicas, which may never be ready."""
        version = self._chance.choice(self._wanted.versions or [])
        version["env"] = self._env((*GOOD, *BAD))
        await self._put()

    async def _scale(self) -> None:
        version = self._chance.choice(self._wanted.versions or [])
        version["replicas"] = self._size()
        await self._put()

    async def _stop_or_start(self) -> None:
        if self._wanted.versions is not None:
            self._wanted.stopped = not self._wanted.stopped
            verb = "stop" if self._wanted.stopped else "start"
            await self._persist(lambda: self._http.post(f"/deployments/{self._wanted.id}/{verb}"))

    async def _add(self) -> None:
        self._wanted.numbers += 1
        self._wanted.versions = [*(self._wanted.versions or []), self._version(self._wanted.numbers)][-3:]
        await self._put()

    async def _drop(self) -> None:
        versions = self._wanted.versions or []
        if len(versions) > 1:
            versions.remove(self._chance.choice(versions))
            await self._put()

    async def _delete(self) -> None:
        self._wanted.versions = None
        await self._persist(lambda: self._http.delete(f"/deployments/{self._wanted.id}"), missing=True)

    async def _renew(self) -> None:
        """Deleted, and another one under its name at once."""
        await self._delete()
        await self._create()

    async def _mend(self) -> None:
        """What is wanted in the end can be had."""
        for version in self._wanted.versions or ():
            if version["env"]["FATE"] in BAD:
                version["env"] = self._env(GOOD)
        if self._wanted.versions is not None:
            await self._put()

    # What they are made of

    def _version(self, number: int) -> dict[str, Any]:
        version = {
            "number": number,
            "model": f"{GROUP}/model/1",
            "instance_type": "tiny",
            "replicas": self._size(),
            "env": self._env(GOOD),
        }
        if self._chance.random() < 0.2:
            version["config_files"] = {"serving.yaml": f"seen: {self._chance.random()}\n"}
        if self._chance.random() < 0.1:
            version["service"] = {"type": "ClusterIP", "port": 80}
        return version

    def _size(self) -> dict[str, int]:
        least = self._chance.randint(1, 3)
        return {"min": least, "max": least + self._chance.choice((0, 0, 0, 2))}

    def _env(self, fates: Sequence[str]) -> dict[str, str]:
        self._wanted.changes += 1
        return {"BUILD": str(self._wanted.changes), "FATE": self._chance.choice(fates)}

    async def _put(self) -> None:
        await self._persist(lambda: self._http.put(f"/deployments/{self._wanted.id}", json=self._wanted.body()))

    async def _persist(self, call: Callable[[], Awaitable[httpx.Response]], *, missing: bool = False) -> None:
        """Repeat it until the API itself has answered; a 5xx or a cut connection is no answer."""
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                answer = await call()
                if answer.is_success or (missing and answer.status_code == 404):
                    return
                assert answer.status_code >= 500 or answer.status_code == 429, answer.text
                last = answer.text
            except httpx.HTTPError as error:
                last = repr(error)
            assert time.monotonic() < deadline, f"no answer to {self._wanted.id}: {last}"
            await asyncio.sleep(self._chance.uniform(0.1, 1.0))  # all at once they would be its next trouble
