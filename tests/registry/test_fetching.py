"""What the registry fetches itself: from where it may, and never from inside, wherever it is led."""

import socket
from pathlib import Path
from typing import Any

import httpcore
import pytest

from tests.registry.web import web
from tests.registry.world import Registry, code, running_registry, sha256, tar

DATA = bytes(range(256)) * 10_000
LOOPBACK = {"fetch_networks": "127.0.0.0/8"}


async def _fetch(registry: Registry, uri: str, **more: Any) -> Any:
    return await registry.call("POST", "/artifacts/fetch", {"uri": uri, **more}, by=registry.admin)


async def test_fetched_bytes_are_kept_like_an_upload(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, **LOOPBACK) as registry, web() as there:
        await registry.make("/groups", {"id": "risk"})
        there.body("/real", DATA)
        fetched = await _fetch(registry, there.redirect("/moved", "/real"), digest=sha256(DATA))
        assert (fetched.status_code, fetched.json()["digest"]) == (201, sha256(DATA))
        await registry.make("/models/risk/churn/versions", {"artifact": fetched.json()["uri"]})
        pulled = await registry.call("GET", "/models/risk/churn/versions/1/artifact", by=registry.admin)
        assert pulled.content == DATA
        assert code(await _fetch(registry, there.body("/x", b"y"), digest=sha256(DATA))) == "digest_mismatch"
        assert code(await _fetch(registry, there.body("/evil", tar({"../x": b"boo"})))) == "bad_archive"
        there.answers["/short"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"
        there.answers["/noise"] = b"\x00\xff\r\n\r\n"
        for uri in (there.url("/short"), there.url("/noise"), there.url("/absent"), "http://127.0.0.1:1/"):
            assert code(await _fetch(registry, uri)) == "fetch_failed", uri
        assert code(await _fetch(registry, there.redirect("/round", there.url("/round")))) == "fetch_failed"
        assert len(registry.files()) == 1


async def test_too_much_is_not_fetched(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_registry(environment, tmp_path, **LOOPBACK, upload_limit="1MB") as registry, web() as there:
        there.answers["/endless"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_500_000
        for uri in (there.body("/large", DATA), there.url("/endless")):
            assert code(await _fetch(registry, uri)) == "too_large"
        assert registry.files() == []


async def test_never_from_private_addresses(registry: Registry) -> None:
    async with web() as there:
        inside = there.body("/secret", b"secret")
        for uri in (
            *(inside, inside.replace("127.0.0.1", "localhost"), inside.replace("127.0.0.1", "[::1]")),
            *(inside.replace("127.0.0.1", "0x7f.1"), inside.replace("127.0.0.1", "[::ffff:127.0.0.1]")),
            *("http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "https://10.1.2.3/"),
        ):
            refused = await _fetch(registry, uri)
            assert (code(refused), "secret" in refused.text) == ("fetch_failed", False), uri
        assert there.seen == []
    for uri in ("file:///etc/passwd", "s3://bucket/x", "hf://org/model", "gopher://x", f"registry://{sha256(b'')}"):
        assert code(await _fetch(registry, uri)) == "fetch_failed", uri
    for uri in ("", "x", "http://", "http://\x00", "http://a b/", "http://u:p@example.org/", "http://[::1"):
        assert code(await _fetch(registry, uri)) == "validation_failed", uri


async def test_not_through_redirects_either(environment: dict[str, str], tmp_path: Path) -> None:
    # Another loopback address than the server's stands for what is inside.
    async with running_registry(environment, tmp_path, fetch_networks="127.0.0.1/32") as registry, web() as there:
        there.body("/secret", b"secret")
        for to in (
            *(f"http://127.0.0.2:{there.port}/secret", f"http://[::1]:{there.port}/secret", "http://169.254.169.254/"),
            *("file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.2/x", "http://user:x@127.0.0.1/", "http://[", ""),
        ):
            assert code(await _fetch(registry, there.redirect("/go", to))) == "fetch_failed", to
        assert set(there.seen) == {"/go"}


async def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public for whoever checks, private for whoever connects."""
    resolved, connected = [], []
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    plain = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in ("rebinding.example", "inside.example", "half.example"):
            return plain(host, port, *args, **options)
        resolved.append(name)
        found = {"inside.example": ["10.0.0.7"], "half.example": ["93.184.216.34", "::1"]}.get(name) or [next(answers)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def connect(_: object, host: str, *__: Any, **___: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError("nobody there")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    assert code(await _fetch(registry, "http://rebinding.example/x")) == "fetch_failed"
    assert (resolved, connected) == (["rebinding.example"], ["93.184.216.34"])
    for uri in ("http://rebinding.example/x", "https://inside.example/x", "http://half.example/x"):
        assert code(await _fetch(registry, uri)) == "fetch_failed"
    assert connected == ["93.184.216.34"]
