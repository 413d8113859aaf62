"""Debian packages that the node and the images need, for `python -m tests.servers build`; never installed by a test.

What is on the machine already is left alone: a Docker engine brings a containerd of its own, which does as well.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.servers.cache import missing

PLUGINS = Path("/usr/lib/cni")
"""Where Debian puts the CNI plugins."""

IMAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/bin/busybox": "busybox-static",
}
"""What building images needs: a program, by name or path, and the package that has it."""

NODE = {
    "containerd": "containerd",
    "runc": "runc",
    f"{PLUGINS}/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "unshare": "util-linux",
}


def install() -> None:
    """What is missing. Needs root, and Debian."""
    packages = lacking({**IMAGES, **NODE})
    if not packages:
        return
    if os.geteuid() != 0:
        missing(f"only root can install {', '.join(packages)}")
    if shutil.which("apt-get") is None:
        missing(f"this is no Debian: install what it calls {', '.join(packages)} yourself")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *argv], check=True, stdout=sys.stderr, env=env)


def require(programs: Mapping[str, str]) -> None:
    """Skip unless they are there and we are root."""
    if os.geteuid() != 0:
        missing("a Kubernetes node and its images need root")
    if packages := lacking(programs):
        missing(f"no {', '.join(packages)} here: python -m tests.servers build installs them")


def lacking(programs: Mapping[str, str]) -> list[str]:
    """The packages of those programs that are not there."""
    return _unique(package for program, package in programs.items() if shutil.which(program, path=_path()) is None)


def _path() -> str:
    """Users' paths often leave out where the system's programs are."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _unique(names: Iterable[str]) -> list[str]:
    return sorted(set(names))
