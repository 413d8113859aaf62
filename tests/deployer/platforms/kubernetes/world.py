"""The Kubernetes platform as a `World`: on a control plane with the real node, with the chart's permissions only."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from services.deployer.platforms import Template
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.kubernetes.platform import KubernetesPlatform
from tests.deployer.platforms.world import World, template
from tests.servers.kubernetes import ControlPlane

KINDS = "deployments,replicasets,pods,services,configmaps,secrets,horizontalpodautoscalers,persistentvolumeclaims"


class KubernetesWorld(World):
    """`kubeconfig` is the service account's. An installation of its own on the cluster, with namespaces of its own."""

    deadline = 60.0
    measures = False

    def __init__(self, plane: ControlPlane, kubeconfig: Path, *, image: str, **options: Any) -> None:
        self.plane, self.kubeconfig, self.image = plane, kubeconfig, image
        self._prefix = f"w{uuid4().hex[:8]}"
        given = {"drain_seconds": 0, "settle_seconds": 0.3, "installation": self._prefix, **options}
        self.options = Options(model_server_image=image, namespace=f"{self._prefix}-{{group}}", **given)
        self.platform = self.another()

    def another(self) -> KubernetesPlatform:
        connection = Connection(kubeconfig=self.kubeconfig)
        return KubernetesPlatform(connection, lambda digest: f"http://nowhere/{digest}", options=self.options)

    async def again(self) -> None:
        await self.platform.close()
        self.platform = self.another()
        await self.platform.start()
        await self.platform.known()

    def leftovers(self, uid: UUID) -> list[str]:
        selector = f"moorage.io/uid={uid}"
        found = self.plane.admin.kubectl("get", KINDS, "--all-namespaces", "-l", selector, "-o", "name")
        return (
            found.split() + self.plane.admin.kubectl("get", "persistentvolumes", "-l", selector, "-o", "name").split()
        )

    def namespace(self, group: str) -> str:
        return self.options.namespace_of(group)

    def template(self, *args: str, **options: Any) -> Template:
        return template(*args, **{"image": self.image, "command": (), "cpu": 0.3, **options})

    def clear(self) -> None:
        """The namespaces go in the background, and with them nothing: that is looked at before."""
        for namespace in self.plane.admin.kubectl("get", "namespaces", "-o", "name").split():
            name = namespace.removeprefix("namespace/")
            if name.startswith(self._prefix):
                self.plane.admin.call("DELETE", f"/api/v1/namespaces/{name}")
