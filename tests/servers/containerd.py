"""containerd on a machine of its own (namespaces.py): pods' containers, and the images that they are made of.

Its store is kept between runs, one for each machine, so that an image is unpacked once.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

from tests.servers import cache, images, packages
from tests.servers.images import Image
from tests.servers.namespaces import Machine
from tests.servers.processes import ServerProcess

SOCKET = "/run/containerd/containerd.sock"
_CRI = "io.containerd.grpc.v1.cri"
_START_SECONDS = 30.0


class Containerd:
    """`folder` takes its configuration and its log."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine, self._folder = machine, folder
        self._home = cache.folder() / f"node-{machine.number}"
        self._snapshotter = "native"
        self._process: ServerProcess | None = None

    async def start(self) -> None:
        """Return when it answers. It has the sandboxes' image then."""
        self._home.mkdir(exist_ok=True)
        if self._has_overlays():
            self._snapshotter = "overlayfs"
        # Containers of an earlier run: nothing of them runs, but they are on record, and would be taken up again.
        without = await self._run(f'disabled_plugins = ["{_CRI}"]\n')
        if found := self.ctr("containers", "ls", "-q").split():
            self.ctr("containers", "rm", *found)
        without.kill()
        self._process = await self._run(self._cri())
        self.load(images.SANDBOX)

    def load(self, image: Image) -> None:
        """Built if need be; then a pod finds it by its reference. An older build of it is forgotten."""
        archive = image.archive()
        known = self.ctr("images", "ls", "-q").split()
        if image.reference in known:
            return
        self.ctr("images", "import", "--snapshotter", self._snapshotter, archive)
        repository = image.reference.rpartition(":")[0]
        if older := [each for each in known if each.rpartition(":")[0] == repository]:
            self.ctr("images", "rm", *older)

    def ctr(self, *arguments: str | Path) -> str:
        """What containerd's own client prints."""
        return self._machine.run("ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments)

    def stop(self) -> None:
        """Containers go on. They end with the machine."""
        if self._process is not None:
            self._process.kill()

    async def _run(self, configuration: str) -> ServerProcess:
        file = self._folder / "containerd.toml"
        root = self._home / self._snapshotter
        file.write_text(f'version = 2\nroot = "{root}"\nstate = "/run/containerd"\n{configuration}')
        argv = self._machine.inside("containerd", "--config", file)
        process = ServerProcess(argv, log=self._folder / "containerd.log")
        self._machine.run("rm", "-f", SOCKET)
        process.start()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(RuntimeError):
                self.ctr("--connect-timeout", "1s", "version")
                return process
            process.check()
            if time.monotonic() > deadline:
                raise TimeoutError(process.tail())
            await asyncio.sleep(0.02)

    def _cri(self) -> str:
        (self._folder / "cni").mkdir(exist_ok=True)
        ranges = {"type": "host-local", "ranges": [[{"subnet": self._machine.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ranges}
        network = {"cniVersion": "0.4.0", "name": "moorage", "plugins": [bridge]}
        (self._folder / "cni" / "bridge.conflist").write_text(json.dumps(network))
        return f"""
[plugins."{_CRI}"]
sandbox_image = "{images.SANDBOX.reference}"
restrict_oom_score_adj = true  # where even root may not lower it
[plugins."{_CRI}".containerd]
snapshotter = "{self._snapshotter}"
[plugins."{_CRI}".cni]
bin_dir = "{packages.PLUGINS}"
conf_dir = "{self._folder / "cni"}"
"""

    def _has_overlays(self) -> bool:
        """Whether the kernel and the disk can lay a container's files over its image's: else each gets a copy."""
        probe = Path(tempfile.mkdtemp(dir=self._home))
        for each in ("lower", "upper", "work", "merged"):
            (probe / each).mkdir()
        options = ",".join(f"{each}dir={probe / each}" for each in ("lower", "upper", "work"))
        try:
            self._machine.run("mount", "-t", "overlay", "-o", options, "overlay", probe / "merged")
            self._machine.run("umount", probe / "merged")
        except RuntimeError:
            return False
        finally:
            shutil.rmtree(probe)
        return True
