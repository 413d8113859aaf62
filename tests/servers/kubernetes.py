"""A Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler. No root, no nodes.

    python -m tests.servers run kubernetes -- kubectl get namespaces

RBAC is on, and the administrator's token a random one. Nodes come from `kwok.py` (fake, any number) and `node.py` (a
real one).
Left out: DNS, a service proxy, and more than one of anything.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx

from tests.servers.admin import Admin
from tests.servers.certificates import issue
from tests.servers.go import ETCD, KUBERNETES
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0


class ControlPlane:
    """A control plane of a test run's own. With an `address` other than loopback it listens on all that there are.

    A part may be killed, paused and, by `start`, started again; what the API server has acknowledged is in etcd.
    """

    def __init__(self, folder: Path, *, address: str = _LOOPBACK, queries_per_second: int = 500) -> None:
        self.folder, self._address = folder, address
        self._port = free_port()
        self._token = uuid4().hex
        self.authority, self._certificate = issue(folder, addresses={_LOOPBACK, address})
        self.admin = Admin(folder, server=self.url(_LOOPBACK), authority=self.authority, token=self._token)
        self.etcd, self._etcd_url = self._make_etcd()
        self.api_server = self._make_api_server()
        self.controller_manager, self.scheduler = self._make_controllers(queries_per_second)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.admin.kubeconfig

    def url(self, address: str = "") -> str:
        return f"https://{address or self._address}:{self._port}"

    async def start(self) -> None:
        """Return when it works: whatever does not run is started."""
        self.etcd.start()
        await self.start_api_server()
        self.controller_manager.start()
        self.scheduler.start()
        # Until a namespace has a service account, its pods are refused.
        await self._until(self.controller_manager, "/api/v1/namespaces/default/serviceaccounts/default")

    async def start_api_server(self) -> None:
        self.api_server.start()
        await self._until(self.api_server, "/readyz")

    def compact(self) -> None:
        """Let etcd forget all history. The API server still remembers some: only once it has been restarted too does it
        answer 410 to a resource version of before."""
        with httpx.Client(base_url=self._etcd_url, trust_env=False) as etcd:
            now = etcd.post("/v3/maintenance/status", json={}).raise_for_status().json()["header"]["revision"]
            etcd.post("/v3/kv/compaction", json={"revision": now, "physical": True}).raise_for_status()

    def stop(self) -> None:
        """SIGKILL to everything: nothing of it is needed again."""
        for process in (self.scheduler, self.controller_manager, self.api_server, self.etcd):
            process.kill()
        self.admin.close()

    async def _until(self, process: ServerProcess, path: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                if self.admin.call("GET", path) is not None:
                    return
            for needed in (self.etcd, process):
                needed.check()
            if time.monotonic() > deadline:
                raise TimeoutError(process.tail())
            await asyncio.sleep(0.02)

    def _make_etcd(self) -> tuple[ServerProcess, str]:
        url, peers = (f"http://{_LOOPBACK}:{free_port()}" for _ in range(2))
        argv: list[str | Path] = [
            ETCD.program("etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            # It elects itself, so it need not wait for others to answer.
            "--heartbeat-interval=10",
            "--election-timeout=100",
            "--log-level=warn",
        ]
        return ServerProcess(argv, log=self.folder / "etcd.log"), url

    def _make_api_server(self) -> ServerProcess:
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self._token},admin,admin,"system:masters"\n')
        argv: list[str | Path] = [
            KUBERNETES.program("kube-apiserver"),
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={_LOOPBACK if self._address == _LOOPBACK else '0.0.0.0'}",
            f"--advertise-address={self._address}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={self._certificate}",
            f"--tls-private-key-file={self._certificate}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            # The server's own key pair serves for the tokens of service accounts too.
            f"--service-account-key-file={self._certificate}",
            f"--service-account-signing-key-file={self._certificate}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",  # nobody looks up the names of our nodes
        ]
        return ServerProcess(argv, log=self.folder / "kube-apiserver.log")

    def _make_controllers(self, queries_per_second: int) -> tuple[ServerProcess, ServerProcess]:
        common = [
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            # By default 20 and 50 a second, which would make them the bottleneck of everything.
            f"--kube-api-qps={queries_per_second}",
            f"--kube-api-burst={queries_per_second}",
        ]
        service_accounts = [
            f"--service-account-private-key-file={self._certificate}",
            f"--root-ca-file={self.authority}",
        ]
        manager: list[str | Path] = [KUBERNETES.program("kube-controller-manager"), *common, *service_accounts]
        scheduler: list[str | Path] = [KUBERNETES.program("kube-scheduler"), *common]
        return (
            ServerProcess(manager, log=self.folder / "kube-controller-manager.log"),
            ServerProcess(scheduler, log=self.folder / "kube-scheduler.log"),
        )


@contextlib.contextmanager
def running(address: str = _LOOPBACK) -> Iterator[ControlPlane]:
    """A control plane in a folder of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-kubernetes-") as folder:
        plane = ControlPlane(Path(folder), address=address)
        try:
            asyncio.run(plane.start())
            yield plane
        finally:
            plane.stop()
