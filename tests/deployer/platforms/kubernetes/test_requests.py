"""What is tried again, what is not, and what is said in the end."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.deployer.platforms.kubernetes import kinds
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import ApiError, Conflict, Forbidden, Invalid, NotFound, Unreachable
from services.deployer.platforms.platform import PlatformError
from tests.deployer.platforms.kubernetes.scripted import Scripted, answer, cut, found, hang, listed, stream, text
from tests.support.ports import free_port

POD: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}
CHANGED = "Operation cannot be fulfilled on pods: the object has been modified; please apply your changes"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Scripted]:
    async with Scripted(tmp_path, then=found(POD)) as scripted:
        yield scripted


def client(server: Scripted, **options: Any) -> Api:
    return Api(Connection(kubeconfig=server.kubeconfig), **{"patience": 5.0} | options)


@pytest.mark.parametrize(
    "failure",
    [answer(500), answer(502), answer(503), answer(504), answer(429), cut, text("<html>", 503), text("no JSON")],
    ids=["500", "502", "503", "504", "429", "cut", "html", "no JSON"],
)
async def test_what_passes_is_tried_again(server: Scripted, failure: Any) -> None:
    server.script.extend([failure, failure])
    async with client(server) as api:
        assert await api.apply(POD) == POD
    assert len(server.seen) == 3
    assert {(seen.path, seen.query["fieldManager"], seen.query["force"]) for seen in server.seen} == {
        ("/api/v1/namespaces/b/pods/a", "moorage", "true")
    }


async def test_a_conflict_is_tried_again_only_where_somebody_wrote_in_between(server: Scripted) -> None:
    server.script.extend([answer(409, CHANGED, reason="Conflict"), found(POD), answer(409, "of another manager")])
    async with client(server) as api:
        await api.apply(POD)
        with pytest.raises(Conflict, match="of another manager"):
            await api.apply(POD)
    assert len(server.seen) == 3


async def test_a_server_that_has_only_just_started_is_not_taken_at_its_word(server: Scripted) -> None:
    server.script.append(answer(403, 'pods "a" is forbidden: not yet ready to handle request', reason="Forbidden"))
    async with client(server) as api:
        assert await api.apply(POD) == POD


@pytest.mark.parametrize(
    ("code", "kind"), [(400, Invalid), (403, Forbidden), (404, NotFound), (405, ApiError), (422, Invalid)]
)
async def test_what_does_not_pass_is_said_at_once(server: Scripted, code: int, kind: type[ApiError]) -> None:
    server.script.append(answer(code, 'pods "a" is forbidden: exceeded quota: small'))
    async with client(server) as api:
        with pytest.raises(kind, match="exceeded quota: small") as caught:
            await api.apply(POD)
    assert isinstance(caught.value, PlatformError)
    assert len(server.seen) == 1


async def test_the_server_says_how_long_to_stay_away(server: Scripted) -> None:
    server.script.append(answer(429, retry_after=1))
    async with client(server) as api:
        await api.apply(POD)
    assert server.seen[1].at - server.seen[0].at >= 0.99


async def test_patience_ends_with_the_servers_words(server: Scripted) -> None:
    server.then = answer(500, "etcdserver: request timed out")
    async with client(server, patience=0.5) as api:
        with pytest.raises(ApiError, match="etcdserver: request timed out"):
            await api.apply(POD)
    assert 2 <= len(server.seen) < 10


async def test_nobody_listens(server: Scripted) -> None:
    server.kubeconfig.write_text(server.kubeconfig.read_text().replace(str(server.port), str(free_port())))
    async with client(server, patience=0.3) as api:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await api.apply(POD)


async def test_an_answer_that_does_not_come_is_given_up(server: Scripted) -> None:
    server.script.append(hang)
    async with client(server, timeout=0.2) as api:
        await api.apply(POD)
    assert len(server.seen) == 2


async def test_only_so_many_at_once(server: Scripted) -> None:
    async def slow(request: Any) -> Any:
        await asyncio.sleep(0.01)
        return await found(POD)(request)

    server.then = slow
    async with client(server, concurrency=3) as api:
        await asyncio.gather(*(api.apply(POD) for _ in range(20)))
    assert server.most_at_once == 3


async def test_refused_credentials_are_read_again(server: Scripted) -> None:
    async def picky(request: Any) -> Any:
        trusted = request.headers["Authorization"] == "Bearer second"
        return await (found(POD) if trusted else answer(401, "Unauthorized"))(request)

    server.then = picky
    async with client(server) as api:
        server.trust("second")
        await asyncio.gather(*(api.apply(POD) for _ in range(5)))
        server.then = answer(401, "Unauthorized")
        with pytest.raises(ApiError, match="Unauthorized"):
            await api.apply(POD)


async def test_no_configuration_is_a_clear_error(tmp_path: Path) -> None:
    for content in (None, "", "nonsense: [", "clusters: []"):
        file = tmp_path / "kubeconfig"
        if content is not None:
            file.write_text(content)
        with pytest.raises(PlatformError, match="no usable Kubernetes configuration"):
            await Connection(kubeconfig=file).open()


async def test_a_proxy_of_the_environment_is_heeded(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "localhost")
    server.kubeconfig.write_text(server.kubeconfig.read_text().replace("127.0.0.1", "kubernetes.invalid"))
    async with client(server) as api:
        assert await api.apply(POD) == POD
    assert server.seen[0].headers["Host"].startswith("kubernetes.invalid")


async def test_absent_is_success_and_a_namesake_stays(server: Scripted) -> None:
    server.script.extend([answer(404), answer(409, "Precondition failed: UID in precondition: 1, UID in object: 2")])
    async with client(server) as api:
        await api.delete(kinds.POD, "b", "a")
        await api.delete(kinds.POD, "b", "a", uid="1", propagation="Foreground")
        server.script.append(answer(409, "pods are being deleted"))
        with pytest.raises(Conflict):
            await api.delete(kinds.POD, "b", "a")
    assert server.seen[1].body == b'{"propagationPolicy":"Foreground","preconditions":{"uid":"1"}}'


async def test_lists_come_in_pages(server: Scripted) -> None:
    server.script.extend([listed(1, 2, version="7", more="token/+="), answer(500), listed(3, version="7")])
    async with client(server) as api:
        pages = [page async for page in api.pages(kinds.POD, selector="a=b", fields="c=d", limit=2)]
    assert [(page.items, page.version) for page in pages] == [([1, 2], "7"), ([3], "7")]
    assert [seen.query for seen in server.seen] == [
        {"labelSelector": "a=b", "fieldSelector": "c=d", "limit": "2"},
        *([{"labelSelector": "a=b", "fieldSelector": "c=d", "limit": "2", "continue": "token/+="}] * 2),
    ]


async def test_log_lines_are_whole_however_they_are_sent(server: Scripted) -> None:
    long = b"x" * 3_000_000
    server.script.append(stream(b"on", b"e\ntwo\n\n", b"thr", b"ee\xff", b"\n" + long + b"\nlast"))
    since = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    async with client(server) as api:
        lines = [line async for line in api.logs("b", "a", "replica", previous=True, tail=5, since=since)]
    assert lines == ["one", "two", "three�", long.decode(), "last"]
    assert server.seen[0].query == {
        "container": "replica",
        "timestamps": "true",
        "previous": "true",
        "tailLines": "5",
        "sinceTime": "2026-01-02T03:04:05Z",
    }


async def test_a_followed_log_comes_as_it_is_written_and_may_be_left(server: Scripted) -> None:
    server.script.append(stream(b"one\n", then=hang))
    async with client(server, timeout=0.2) as api:
        lines = api.logs("b", "a", "replica", follow=True)
        assert await anext(lines) == "one"
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.wait([waiting], timeout=0.5)
        assert not waiting.done()  # though the timeout is over
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        server.script.append(answer(400, 'previous terminated container "replica" in pod "a" not found'))
        with pytest.raises(Invalid, match="previous terminated container"):
            await anext(api.logs("b", "a", "replica", previous=True))


async def test_usage_is_optional(server: Scripted) -> None:
    server.script.extend([answer(404), answer(403), answer(503), listed({"metadata": {}}, version="")])
    async with client(server) as api:
        began = time.monotonic()
        assert [await api.usage(selector="a=b") for _ in range(4)] == [None, None, None, [{"metadata": {}}]]
        assert time.monotonic() - began < 0.5
        server.script.append(answer(500))
        with pytest.raises(ApiError):
            await api.usage(selector="a=b")
