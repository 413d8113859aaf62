"""Bytes that the registry gets itself: over http(s) from public addresses, or out of object stores that are open to
it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.registry.artifacts import guarded, objects
from services.registry.artifacts.domain import Elsewhere, parse_address
from services.registry.artifacts.guarded import Networks, Unreachable
from services.registry.errors import FetchFailed
from shared.errors import ValidationFailed
from shared.telemetry import get_logger

log = get_logger(__name__)

_FETCHABLE = ("gs", "http", "https", "s3")


class Fetcher:
    """Below `prefixes` only: objects are opened with credentials of ours."""

    def __init__(self, prefixes: tuple[str, ...], networks: Networks) -> None:
        self._prefixes = prefixes
        self._networks = networks

    @asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        """The announced size and the bytes. Raises ValidationFailed, FetchFailed also while they are read."""
        try:
            address = parse_address(uri)
        except ValueError as error:
            raise ValidationFailed.of("/uri", str(error)) from error
        if not isinstance(address, Elsewhere) or address.scheme not in _FETCHABLE or not uri.startswith(self._prefixes):
            raise FetchFailed.of("/uri", f"is not fetched here; these are: {', '.join(self._prefixes)}")
        try:
            if address.scheme in ("gs", "s3"):
                yield await objects.fetch(uri)
                return
            if self._networks.refuse_literal(address.host):
                raise Unreachable("leads to a private address")
            async with guarded.get(uri, networks=self._networks) as answer:
                yield answer.size, answer.chunks
        except Unreachable as error:
            raise FetchFailed.of("/uri", str(error)) from error
        except TimeoutError as error:
            raise FetchFailed.of("/uri", "took too long") from error
        except OSError as error:
            if error.errno is not None:
                raise  # a disk of ours
            log.info("fetch.failed", scheme=address.scheme, error=str(error))
            raise FetchFailed.of("/uri", "cannot be read from its store") from error
