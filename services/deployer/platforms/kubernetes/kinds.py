"""The kinds of objects that we speak of, and where the API server keeps each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""An object as the API server sends it."""


@dataclass(frozen=True)
class Kind:
    """`plural` is its name in addresses, and in logs and metrics."""

    name: str
    api: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, *, subresource: str | None = None) -> str:
        """Of one object, or without a name of all (in the namespace)."""
        parts = ["/api" if "/" not in self.api else "/apis", self.api]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
POD = Kind("Pod", "v1", "pods")
SECRET = Kind("Secret", "v1", "secrets")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
SERVICE = Kind("Service", "v1", "services")
CLAIM = Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
VOLUME = Kind("PersistentVolume", "v1", "persistentvolumes", namespaced=False)
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers")
EVENT = Kind("Event", "v1", "events")
NAMESPACE = Kind("Namespace", "v1", "namespaces", namespaced=False)
POD_METRICS = Kind("PodMetrics", "metrics.k8s.io/v1beta1", "pods")

_BY_NAME = {
    (kind.api, kind.name): kind
    for kind in (
        DEPLOYMENT,
        POD,
        SECRET,
        CONFIG_MAP,
        SERVICE,
        CLAIM,
        VOLUME,
        AUTOSCALER,
        EVENT,
        NAMESPACE,
    )
}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """What the manifest says it is."""
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]
