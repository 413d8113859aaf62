"""GET over the network for somebody who must not come into our own: server-side request forgery is kept out.

What is checked is the address that is connected to, at the moment of connecting: so neither a redirect, nor a name that
resolves to a private address, nor one that resolves differently the second time (DNS rebinding) leads inside. TLS still
checks the name. Redirects are followed by hand, each like a new address. Left out: proxies, cookies, credentials.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

__all__ = ["Networks", "Unreachable", "get"]

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TIMEOUTS = {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": 10.0}
_LONGEST_SECONDS = 3600.0
# Addresses within which an IPv4 address is hidden: translated (NAT64).
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


class Unreachable(Exception):
    """Says what is wrong with the address, and nothing about what lies behind it."""


class Networks:
    """Those that may be connected to: everything public, and what is allowed besides."""

    def __init__(self, allowed: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permit(self, address: str) -> bool:
        ip = ip_address(address.partition("%")[0])
        if any(ip in network for network in self._allowed):
            return True
        return all(_is_public(each) for each in (ip, *_hidden(ip)))

    def refuse_literal(self, host: str) -> bool:
        """Whether the name itself says that it is inside, without asking anybody."""
        name = host.rstrip(".").lower()
        if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
            return not self.permit("127.0.0.1")
        try:
            # As the C library reads it too: 127.1, 0x7f000001, 2130706433.
            literal = name if ":" in name else socket.inet_ntoa(socket.inet_aton(name))
            return not self.permit(literal)
        except (OSError, ValueError):
            return False


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _hidden(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    if isinstance(ip, IPv4Address):
        return []
    found = [each for each in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if each is not None]
    if any(ip in network for network in _NAT64):
        found.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return found


@dataclass(frozen=True)
class Answer:
    """`size` is what the server has announced."""

    size: int | None
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def get(url: str, *, networks: Networks) -> AsyncIterator[Answer]:
    """The body at `url`. Raises Unreachable, also while it is read."""
    backend = _Guarded(networks)
    async with (
        asyncio.timeout(_LONGEST_SECONDS),
        httpcore.AsyncConnectionPool(ssl_context=ssl.create_default_context(), network_backend=backend) as pool,
    ):
        for _ in range(_MOST_REDIRECTS + 1):
            _check(url)
            following = None
            try:
                async with pool.stream("GET", url, headers=_HEADERS, extensions={"timeout": _TIMEOUTS}) as response:
                    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                    if response.status == 200:
                        length = headers.get(b"content-length", "")
                        yield Answer(int(length) if length.isdecimal() else None, _chunks(response))
                        return
                    if response.status not in _REDIRECTS or b"location" not in headers:
                        raise Unreachable(f"is answered with status {response.status}")
                    following = urljoin(url, headers[b"location"])
            except _FAILURES as error:
                raise Unreachable("cannot be reached") from error
            if url.startswith("https:") and not following.startswith("https:"):
                raise Unreachable("leads from https to http")
            url = following
        raise Unreachable(f"leads further more than {_MOST_REDIRECTS} times")


_HEADERS = [("Accept-Encoding", "identity"), ("User-Agent", "moorage-registry")]
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    UnicodeError,
    ValueError,
)


async def _chunks(response: httpcore.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_stream():
            yield chunk
    except _FAILURES as error:
        raise Unreachable("broke off") from error


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_is_sane = parts.port is None or parts.port > 0
    except ValueError:
        raise Unreachable("leads to what is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or not port_is_sane:
        raise Unreachable("leads to what is no http address")


class _Guarded(httpcore.AsyncNetworkBackend):
    """Resolves, judges every address, and connects to one that was judged."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        if not addresses or not all(self._networks.permit(address) for address in addresses):
            raise Unreachable("leads to a private address")
        error: Exception | None = None
        for address in addresses[:4]:
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error or httpcore.ConnectError(host)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise Unreachable("leads to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._plain.sleep(seconds)


async def _resolve(host: str, port: int) -> Sequence[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable("has a name that does not resolve") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
