"""Addresses of artifacts and links to them. Pure: the time is an argument."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PULL = "pull"
"""The purpose that links are signed for."""

DIGEST = r"sha256:[0-9a-f]{64}"
SCHEMES = ("file", "gs", "hf", "http", "https", "nfs", "pvc", "registry", "s3")
"""Those that an address may have anywhere; an installation supports some of them."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_REGISTRY = re.compile(rf"registry://({DIGEST})")
_GIVEN_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")

Artifact = str | dict[str, str]
"""One address, or several by key."""


@dataclass(frozen=True)
class Uploaded:
    """`registry://sha256:…`: bytes that we keep."""

    digest: str
    scheme: str = "registry"


@dataclass(frozen=True)
class OnServer:
    """`file:///…`: something that lies on the server."""

    path: str
    scheme: str = "file"


@dataclass(frozen=True)
class Unsupported:
    """Of a scheme that no installation can read yet."""

    scheme: str


Address = Uploaded | OnServer | Unsupported


def registry_uri(digest: str) -> str:
    return f"registry://{digest}"


def parse_address(uri: str) -> Address:
    """Raises ValueError with what is wrong."""
    match = _SCHEME.match(uri)
    if match is None:
        raise ValueError("must be an address with a scheme, such as registry://sha256:…")
    if match[1] == "registry":
        found = _REGISTRY.fullmatch(uri)
        if found is None:
            raise ValueError("must be registry://sha256: and 64 hexadecimal digits in lower case")
        return Uploaded(found[1])
    if match[1] == "file":
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="strict")
        if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\x00" in path:
            raise ValueError("must be file:// and an absolute path")
        return OnServer(path)
    return Unsupported(match[1])


def parse_digest(given: str) -> str:
    """A SHA-256 as clients write it, with or without `sha256:`. Raises ValueError."""
    match = _GIVEN_DIGEST.fullmatch(given.strip())
    if match is None:
        raise ValueError("must be a SHA-256: 64 hexadecimal digits")
    return f"sha256:{match[1].lower()}"


def addresses(artifact: Artifact) -> dict[str, str]:
    """Pointer into the artifact → address."""
    return {"": artifact} if isinstance(artifact, str) else {f"/{key}": uri for key, uri in artifact.items()}


def link_is_good(digest: str, *, expires: int, signature: str, now: float, verify: Callable[[str, str], bool]) -> bool:
    """Whether a presigned link to `digest` was made by us and has not expired."""
    return verify(f"{digest} {expires}", signature) and now < expires
