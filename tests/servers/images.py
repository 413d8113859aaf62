"""Container images, built from real Dockerfiles by buildah without a container engine, and kept as archives.

    python -m tests.servers build    among others, all of them

Their base image cannot be pulled everywhere, so one of the same name is made by debootstrap and put in its place; what
stands in the Dockerfiles is the same for both. An image is built anew when its Dockerfile, what that copies or the base
has changed. Needs root. Left out: pushing images anywhere.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from tests.servers import packages
from tests.servers.cache import folder, made_once

_REPOSITORY = Path(__file__).parents[2]
_DOCKERFILES = Path(__file__).with_name("dockerfiles")
_BASE = "docker.io/library/debian:bookworm-slim"
_SUITE = "bookworm"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_ARCHIVE = "image.tar"
_KEPT_SECONDS = 2 * 86_400
# As the real base image leaves them out.
_SLIM = ("var/cache/apt/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/locale/*", "usr/share/man/*", "dev/*")


@dataclass(frozen=True)
class Image:
    """`context` is the folder that its Dockerfile copies from."""

    name: str
    dockerfile: Path
    context: Path

    @property
    def reference(self) -> str:
        """What a pod names it. Another content has another one, so that no node takes an old image for it."""
        return f"docker.io/moorage/{self.name}:{self._digest}"

    def archive(self) -> Path:
        """As `docker save` writes it; built when it is not in the cache. Skips where that is not possible."""
        packages.require(packages.IMAGES)
        base = None if self._on_scratch else _base()
        return _archive(f"{self.name}-{self._digest}", lambda into: self._build(into, base))

    @property
    def _on_scratch(self) -> bool:
        return _BASE not in self.dockerfile.read_text()

    @cached_property
    def _digest(self) -> str:
        """Taken once: one process means the same image throughout, even if somebody edits what is in it meanwhile."""
        found = hashlib.sha256(b"" if self._on_scratch else _recipe().encode())
        found.update(self.dockerfile.read_bytes())
        for file in _copied(self.dockerfile, self.context):
            found.update(f"\0{file.relative_to(self.context)}\0{file.stat().st_mode}\0".encode())
            found.update(file.read_bytes())
        return found.hexdigest()[:16]

    def _build(self, into: Path, base: Path | None) -> None:
        with _Storage() as storage:
            if base is not None:
                storage.run("pull", "--quiet", f"docker-archive:{base}")
            storage.build(self.dockerfile, self.context, self.reference)
            storage.save(self.reference, into / _ARCHIVE)


class _Storage:
    """A storage of buildah's, for one build: nothing is left of it, nor shared with anybody."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="build-", dir=_images()))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    def build(self, dockerfile: Path, context: Path, reference: str) -> None:
        options = ["--isolation=chroot", "--pull-never", f"--tag={reference}"]
        self.run("bud", *options, "--file", dockerfile, context)

    def save(self, reference: str, archive: Path) -> None:
        self.run("push", "--quiet", reference, f"docker-archive:{archive}:{reference}")

    def run(self, command: str, *arguments: str | Path) -> None:
        storage = [f"--root={self._folder / 'root'}", f"--runroot={self._folder / 'run'}", "--storage-driver=vfs"]
        argv = ["buildah", *storage, command, *arguments]
        env = {**os.environ, "TMPDIR": str(self._folder)}
        subprocess.run(argv, check=True, stdout=sys.stderr, env=env)


def _base() -> Path:
    """An archive with the image that stands in for the Dockerfiles' base."""

    def make(into: Path) -> None:
        root = into / "root"
        included = "--include=ca-certificates,python3-venv"
        argv: list[str | Path] = ["debootstrap", "--variant=minbase", included, _SUITE, root]
        subprocess.run(argv, check=True, stdout=sys.stderr)
        shutil.copyfile(_AUTHORITIES, root / _AUTHORITIES.relative_to("/"))
        left_out = [f"--exclude=./{each}" for each in _SLIM]
        subprocess.run(["tar", "-C", root, *left_out, "-cf", into / "base.tar", "."], check=True)
        shutil.rmtree(root)
        with _Storage() as storage:
            storage.build(_DOCKERFILES / "base.Dockerfile", into, _BASE)
            storage.save(_BASE, into / _ARCHIVE)
        (into / "base.tar").unlink()

    return _archive(f"base-{hashlib.sha256(_recipe().encode()).hexdigest()[:16]}", make)


def _recipe() -> str:
    """What the base depends on. Its packages are those of the day when it was made, as with the real one."""
    dockerfile = (_DOCKERFILES / "base.Dockerfile").read_text()
    authorities = hashlib.sha256(_AUTHORITIES.read_bytes()).hexdigest()
    return "\n".join((_SUITE, *_SLIM, authorities, dockerfile))


def _copied(dockerfile: Path, context: Path) -> Iterator[Path]:
    """The files that a Dockerfile takes out of its context, in order; those that are always left out left out."""
    for line in re.findall(r"^(?:COPY|ADD) (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE):
        *sources, _ = line.split()
        for source in (context / each for each in sources):
            found = [source] if source.is_file() else sorted(source.rglob("*"))
            yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _archive(name: str, make: Callable[[Path], None]) -> Path:
    """From the cache. Every change of the code makes images of some hundred megabytes, so what nobody has used of late
    goes out of it; and so does what a killed build has left."""
    ready = made_once(f"images/{name}", make)
    os.utime(ready)
    for each in _images().iterdir():
        if each.is_dir() and each.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(each, ignore_errors=True)
    return ready / _ARCHIVE


def _images() -> Path:
    return folder() / "images"


def _ours(name: str) -> Image:
    return Image(name, _REPOSITORY / "deploy" / "docker" / f"{name}.Dockerfile", _REPOSITORY)


SERVICES, MODEL_SERVER, LOCAL, ENVOY = _ours("services"), _ours("modelserver"), _ours("local"), _ours("envoy")
SANDBOX = Image("sandbox", _DOCKERFILES / "sandbox.Dockerfile", Path("/usr/bin"))
ROOT = Image("root", _DOCKERFILES / "root.Dockerfile", Path("/usr/bin"))
REPLICA = Image("replica", _DOCKERFILES / "replica.Dockerfile", _REPOSITORY / "tests" / "deployer" / "platforms")
ALL = (SANDBOX, ROOT, REPLICA, MODEL_SERVER, SERVICES, LOCAL, ENVOY)
