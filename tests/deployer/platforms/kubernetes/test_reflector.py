"""A list, then a watch for ever, whatever the server does meanwhile. The server here is a script."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.deployer.platforms.kubernetes import kinds, trimming
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.objects import Resource
from services.deployer.platforms.kubernetes.reflector import Reflector
from services.deployer.platforms.kubernetes.table import Table
from tests.deployer.platforms.kubernetes.scripted import Scripted, answer, cut, events, hang, listed, stream
from tests.support.waiting import until

UID = uuid4()
GONE = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}


def item(name: str, version: int, value: str = "") -> dict[str, Any]:
    labels = {"moorage.io/uid": str(UID), "moorage.io/version": "1"}
    metadata = {"name": name, "uid": f"uid of {name}", "labels": labels, "resourceVersion": str(version)}
    return {"metadata": metadata | {"creationTimestamp": "2026-11-20T22:00:00Z"}, "data": {"value": value}}


def bookmark(version: int) -> tuple[str, Any]:
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version)}}


class Reflected:
    """`told` has a name for each time that a listener was called."""

    def __init__(self, api: Api) -> None:
        self.told: list[str] = []
        self.table = Table[Resource](lambda row: self.told.append(row.name))
        self.reflector = Reflector(
            api, kinds.CONFIG_MAP, self.table, trimming.trim_resource, selector="a=b", seconds=60
        )

    @property
    def names(self) -> list[str]:
        return sorted(row.name for row in self.table.of(UID))

    async def until(self, *names: str) -> None:
        wanted = sorted(names)
        await until(lambda: self.names == wanted)


Play = Callable[..., Awaitable[Reflected]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Scripted]:
    async with Scripted(tmp_path, then=stream(then=hang)) as scripted:
        yield scripted


@pytest.fixture
async def play(server: Scripted) -> AsyncIterator[Play]:
    """Runs a reflector against the script."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*script: Any) -> Reflected:
            server.script.extend(script)
            api = await stack.enter_async_context(Api(Connection(kubeconfig=server.kubeconfig), patience=0.5))
            reflected = Reflected(api)
            task = asyncio.create_task(reflected.reflector.run())

            async def end() -> None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            stack.push_async_callback(end)
            return reflected

        yield start


def watched(server: Scripted) -> list[str]:
    """From which version each watch was begun."""
    return [seen.query["resourceVersion"] for seen in server.seen if "watch" in seen.query]


def lists(server: Scripted) -> int:
    return sum("watch" not in seen.query for seen in server.seen)


async def test_it_goes_on_where_it_was_cut(server: Scripted, play: Play) -> None:
    it = await play(
        listed(item("a", 3), version="5"),
        events(("ADDED", item("b", 6)), then=cut),
        events(bookmark(9)),
        events(("MODIFIED", item("b", 11)), ("DELETED", item("a", 12)), then=hang),
    )
    await it.until("b")
    assert watched(server)[:3] == ["5", "6", "9"]
    assert lists(server) == 1
    assert it.told == ["a", "b", "a"]  # b was modified in nothing that matters
    assert {(seen.query["labelSelector"], seen.query["allowWatchBookmarks"]) for seen in server.seen[1:]} == {
        ("a=b", "true")
    }


@pytest.mark.parametrize(
    "gone", [answer(410, "too old", reason="Expired"), events(("ERROR", GONE))], ids=["as an answer", "as an event"]
)
async def test_too_old_means_to_list_again_and_what_vanished_is_told(server: Scripted, play: Play, gone: Any) -> None:
    it = await play(
        listed(item("a", 3), item("b", 4), item("c", 4), version="5"),
        gone,
        listed(item("b", 4), item("c", 8, "new"), item("d", 7), version="20"),
    )
    await it.until("b", "c", "d")
    await until(lambda: watched(server) == ["5", "20"])
    assert sorted(it.told) == ["a", "a", "b", "c", "c", "d"]


async def test_a_version_from_the_future_is_listed_again(server: Scripted, play: Play) -> None:
    causes = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    error = {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large", "details": causes}
    it = await play(
        listed(item("a", 3), item("b", 4, "new"), version="5"),
        events(("ERROR", error)),
        listed(item("b", 1, "old"), version="2"),
    )
    await until(lambda: watched(server) == ["5", "2"])
    assert [(row.name, row.resource_version) for row in it.table.of(UID)] == [("b", 1)]
    assert sorted(it.told) == ["a", "a", "b", "b", "b"]


async def test_a_list_that_fails_half_way_changes_nothing(server: Scripted, play: Play) -> None:
    it = await play(
        listed(item("a", 3), version="5"),
        answer(410),
        listed(item("b", 6), version="9", more="next"),
        answer(403, "not now"),
    )
    await until(lambda: it.reflector.trouble)
    assert it.names == ["a"]
    assert it.reflector.trouble == "not now"
    server.script.extend([listed(item("b", 6), version="9", more="next"), listed(item("c", 8), version="9")])
    await it.until("b", "c")
    await until(lambda: it.reflector.trouble is None)


async def test_pages_that_expire_are_asked_for_all_at_once(server: Scripted, play: Play) -> None:
    it = await play(listed(item("a", 3), version="5", more="next"), answer(410), listed(item("b", 6), version="9"))
    await it.until("b")
    assert [seen.query.get("limit") for seen in server.seen[:3]] == ["500", "500", None]


@pytest.mark.parametrize(
    "noise",
    [b"no JSON\n", b"7\n", b'{"type": "ADDED"}\n', b'{"type": "ADDED", "object": 7}\n', b'{"type": "MODIFIED", "obj'],
)
async def test_noise_in_a_watch_loses_nothing(server: Scripted, play: Play, noise: bytes) -> None:
    it = await play(
        listed(item("a", 3), version="5"), stream(noise, then=cut), events(("ADDED", item("b", 6)), then=hang)
    )
    await it.until("a", "b")
    assert watched(server)[:2] == ["5", "5"]


async def test_an_event_without_a_version_means_to_list_again(server: Scripted, play: Play) -> None:
    it = await play(listed(version="5"), events(("ADDED", {"metadata": {}})), listed(item("b", 6), version="9"))
    await it.until("b")


async def test_an_object_like_no_other_hides_none(server: Scripted, play: Play) -> None:
    odd = item("odd", 4)
    odd["metadata"]["resourceVersion"] = "4"
    odd["metadata"]["creationTimestamp"] = "yesterday"
    it = await play(listed(odd, item("a", 3), version="5"), events(("ADDED", odd), ("ADDED", item("b", 6)), then=hang))
    await it.until("a", "b")


async def test_a_watch_that_is_refused_again_and_again_is_begun_anew(server: Scripted, play: Play) -> None:
    it = await play(listed(item("a", 3), version="5"), *[answer(500, "boom")] * 5, listed(item("b", 6), version="9"))
    await it.until("b")
    assert lists(server) == 2


@pytest.mark.parametrize(
    "then",
    [answer(410), answer(500), cut, stream(), events(("ERROR", GONE)), listed(version="1")],
    ids=["410", "500", "cut", "nothing", "ERROR", "no watch"],
)
async def test_there_is_never_a_busy_loop(server: Scripted, play: Play, then: Any) -> None:
    server.then = then
    began = time.monotonic()
    await play()
    await until(lambda: len(server.seen) >= 6)
    # At most two requests an attempt, at least half of 0.05, 0.1, 0.2 … s between attempts.
    assert time.monotonic() - began > (0.05 + 0.1) / 2


async def test_our_own_changes_are_known_at_once_and_stay_in_order(server: Scripted, play: Play) -> None:
    it = await play(listed(item("a", 3), version="5"))
    await it.until("a")
    it.reflector.learn(item("b", 7, "new"))
    it.reflector.learn(item("a", 4, "old news"))
    assert it.names == ["a", "b"]
    assert it.told == ["a", "b"]
    row = next(row for row in it.table.of(UID) if row.name == "b")
    it.table.put(row)
    assert it.told == ["a", "b"]


async def test_what_was_deleted_before_we_learn_of_it_stays_deleted(server: Scripted, play: Play) -> None:
    it = await play(
        listed(version="5"), events(("ADDED", item("a", 6)), ("DELETED", item("a", 7)), bookmark(8), then=hang)
    )
    await until(lambda: it.told == ["a", "a"])
    it.reflector.learn(item("a", 6))
    assert it.names == []
