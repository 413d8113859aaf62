"""`python -m modelserver.pull`: put a model into a content-addressed folder, once, whoever asks and however often.

    python -m modelserver.pull --url URL --digest sha256:HEX --into DIR [--name NAME]

fetches the blob (http, https, file), checks its digest while it streams, unpacks it if it is an archive and moves it to
DIR/HEX in one step; the path is printed.  What is there already is not fetched again.  Standard library only: this
runs before anything else.  A URL may carry a signature, so its query never appears in a message.
"""

import argparse
import hashlib
import http.client
import logging
import os
import random
import re
import shutil
import signal
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelserver import archives
from modelserver.settings import Parser, positive
from modelserver.termination import Exit, Failure, ModelDownloadFailed, report

log = logging.getLogger(__name__)

RETRIED = {408, 425, 429, 500, 502, 503, 504}
STALE_SECONDS = 24 * 3600
"""A working folder this old was left by a pull that was killed."""

_CHUNK = 1 << 20
_WORK = ".pull-"
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to pull, and with how much patience."""

    url: str
    digest: str
    into: Path
    name: str | None
    attempts: int
    timeout: int
    entries_limit: int
    bytes_limit: int

    @property
    def target(self) -> Path:
        """Where the model will be."""
        return self.into / self.digest

    @property
    def shown_url(self) -> str:
        """The URL without what might be secret in it."""
        try:
            parts = urllib.parse.urlsplit(self.url)
        except ValueError:
            return "the given URL"
        host = parts.netloc.rpartition("@")[2]
        return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


class Interrupted(Exception):
    """The download did not come through this time; another attempt may."""


def pull(request: Request) -> Path:
    """The folder with the model; raises ModelDownloadFailed."""
    if request.target.is_dir():
        return request.target
    try:
        request.into.mkdir(parents=True, exist_ok=True)
        _sweep(request.into, now=time.time())
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=request.into) as work:
            blob = Path(work) / "blob"
            _fetch(request, blob)
            _place(_unpack(request, blob, Path(work) / "content"), request.target)
    except archives.Refused as error:
        raise ModelDownloadFailed(
            f"the archive from {request.shown_url} was refused: {error}",
            advice="Pack the model's folder again, with files and folders only, and register it as a new version.",
        ) from None
    except OSError as error:
        raise ModelDownloadFailed(
            f"storing the model in {request.into} failed: {error.strerror or error}",
            advice="Look at the free space and the permissions of that folder.",
        ) from error
    return request.target


def _fetch(request: Request, blob: Path) -> None:
    """Download with retries, and check the digest."""
    for attempt in range(1, request.attempts + 1):
        try:
            digest = _download(request, blob)
            break
        except Interrupted as error:
            if attempt == request.attempts:
                raise ModelDownloadFailed(
                    f"fetching {request.shown_url} failed {attempt} times, lastly: {error}",
                    advice="Look whether the registry or the storage is up and can be reached from here.",
                ) from None
            pause = min(0.25 * 2**attempt, 8.0) * random.uniform(0.5, 1.0)  # noqa: S311  # only spreads retries
            log.warning("download interrupted attempt=%d retry_in=%.1f error=%s", attempt, pause, error)
            time.sleep(pause)
    if digest != request.digest:
        raise ModelDownloadFailed(
            f"{request.shown_url} has the digest sha256:{digest}, not sha256:{request.digest}",
            advice="The artifact was changed after it was registered, or damaged. Register it again.",
        )


def _download(request: Request, blob: Path) -> str:
    """One attempt: the blob on disk, and its digest."""
    hasher = hashlib.sha256()
    try:
        opener = _opener(request.url)
        with opener.open(request.url, timeout=request.timeout) as response, blob.open("wb") as file:
            while chunk := response.read(_CHUNK):
                hasher.update(chunk)
                file.write(chunk)
            if getattr(response, "length", None):  # http.client only notices when it reads all at once
                raise Interrupted(f"the connection ended {response.length} bytes early")
    except urllib.error.HTTPError as error:
        if error.code in RETRIED:
            raise Interrupted(f"HTTP {error.code}") from error
        raise ModelDownloadFailed(
            f"{request.shown_url} answered HTTP {error.code}",
            advice="Look whether the artifact still exists and the link to it has not expired.",
        ) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, FileNotFoundError | PermissionError | IsADirectoryError | str):
            raise ModelDownloadFailed(
                f"{request.shown_url} cannot be read: {error.reason}", advice="Look at the artifact's address."
            ) from None
        raise Interrupted(str(error.reason)) from error
    except ValueError:  # its text would show the whole URL
        raise ModelDownloadFailed(f"{request.shown_url} is not an address", advice="Use http, https or file.") from None
    except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        raise Interrupted(f"{type(error).__name__}: {error}") from error
    return hasher.hexdigest()


def _opener(url: str) -> urllib.request.OpenerDirector:
    """http, https and file alone; a proxy is never asked for this machine's own addresses."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError("unknown scheme")
    host = urllib.parse.urlsplit(url).hostname or ""
    local = host == "localhost" or host.startswith("127.") or host == "::1"
    return urllib.request.build_opener(*[urllib.request.ProxyHandler({})] if local else [])


def _unpack(request: Request, blob: Path, content: Path) -> Path:
    """The folder that becomes the model's: the archive's content, or one file."""
    content.mkdir()
    name = request.name
    single = name is not None and not name.lower().endswith(_ARCHIVES)  # model.npz is a zip, but not to be unpacked
    limits = {"entries_limit": request.entries_limit, "bytes_limit": request.bytes_limit}
    if single or not archives.unpack(blob, content, **limits):
        blob.rename(content / (name or "model"))
        return content
    inside = list(content.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else content


def _place(content: Path, target: Path) -> None:
    """Move into place; whoever comes second finds it done."""
    content.chmod(0o755)
    try:
        content.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _sweep(into: Path, *, now: float) -> None:
    for work in into.glob(f"{_WORK}*"):
        try:
            if now - work.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(work, ignore_errors=True)
        except FileNotFoundError:
            continue


def parse(argv: Sequence[str]) -> Request:
    """What the command line and the environment say, or UsageError."""
    parser = Parser(prog="python -m modelserver.pull", description="Fetch a model, once.", env=os.environ)
    option = parser.option
    option("--url", "MOORAGE_MODEL_URL", kind=str, about="where the blob is: http, https or file")
    option("--digest", "MOORAGE_MODEL_DIGEST", kind=_digest, about="sha256:<hex> of the blob")
    option("--into", "MOORAGE_MODEL_CACHE", kind=Path, about="folder of all models")
    option("--name", "MOORAGE_MODEL_FILE", kind=_file_name, optional=True, about="file name of a single-file model")
    option("--attempts", "MOORAGE_PULL_ATTEMPTS", kind=positive, default="6", about="downloads to try")
    option("--timeout", "MOORAGE_PULL_TIMEOUT", kind=positive, default="30", about="seconds without a byte")
    option("--entries-limit", "MOORAGE_PULL_ENTRIES_LIMIT", kind=positive, default="100000", about="files in it")
    option("--bytes-limit", "MOORAGE_PULL_BYTES_LIMIT", kind=positive, default=str(64 << 30), about="unpacked bytes")
    return Request(**vars(parser.parse_args(argv)))


def _digest(text: str) -> str:
    found = re.fullmatch(r"sha256:([0-9a-f]{64})", text)
    if found is None:
        raise argparse.ArgumentTypeError("must be sha256: and 64 hexadecimal digits in lower case")
    return found[1]


def _file_name(text: str) -> str:
    if "/" in text or "\0" in text or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file's name")
    return text


def main() -> Exit:
    """Pull, print the path, and say how it ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the working folder goes
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        sys.stdout.write(f"{pull(parse(sys.argv[1:]))}\n")
    except Failure as failure:
        report(failure)
        return failure.exit
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
