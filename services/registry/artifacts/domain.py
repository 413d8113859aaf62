"""Addresses of artifacts and links to them. Pure: the time is an argument."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PULL = "pull"
"""The purpose that links are signed for."""

DIGEST = r"sha256:[0-9a-f]{64}"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_REGISTRY = re.compile(rf"registry://({DIGEST})")
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,221}[a-z0-9]"
_LABEL = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_PATH = r"(/[^\s?#]*)?"
_FORMS = {
    "s3": (re.compile(rf"s3://{_BUCKET}/[^\s?#]+"), "s3://bucket/key, the bucket of 3 or more characters"),
    "gs": (re.compile(rf"gs://{_BUCKET}/[^\s?#]+"), "gs://bucket/key, the bucket of 3 or more characters"),
    "http": (re.compile(r"http://[^\s/?#]+[^\s#]*"), "http://host/path"),
    "https": (re.compile(r"https://[^\s/?#]+[^\s#]*"), "https://host/path"),
    "hf": (re.compile(rf"hf://{_NAME}/{_NAME}(@[A-Za-z0-9._-]{{1,100}})?{_PATH}"), "hf://owner/model@revision/path"),
    "pvc": (re.compile(rf"pvc://{_LABEL}{_PATH}"), "pvc://claim/path"),
    "nfs": (re.compile(rf"nfs://{_LABEL}/[^\s?#]*"), "nfs://server/path"),
}
_UPWARDS = re.compile(r"(^|/)\.\.(/|$)|\\|[\x00-\x1f\x7f]")
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
class Elsewhere:
    """Something that others keep: an object, a web address, a repository, a volume. `host` of http(s)."""

    uri: str
    scheme: str
    host: str = ""


@dataclass(frozen=True)
class Unknown:
    """Of a scheme that nobody has heard of."""

    scheme: str


Address = Uploaded | OnServer | Elsewhere | Unknown


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
    if match[1] not in _FORMS:
        return Unknown(match[1])
    form, example = _FORMS[match[1]]
    if not form.fullmatch(uri) or _UPWARDS.search(unquote(uri)):
        raise ValueError(f"must be of the form {example}")
    return Elsewhere(uri, match[1], _host(uri) if match[1] in ("http", "https") else "")


def _host(uri: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(uri)
    if not parts.hostname or parts.port == 0:
        raise ValueError("must name a host, and perhaps a port")
    if parts.username is not None:
        raise ValueError("must not hold a user or a password: everybody who may read the version would see them")
    return parts.hostname


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
