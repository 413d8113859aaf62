"""A version's own address, and its scaling: what there is beside the Deployment only if it is asked for."""

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests.manifest import JSON, Manifest, Metadata, metadata
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import Workload

CPU_UTILISATION = 80
"""Per cent of what a replica may use, averaged over all of them, above which there are to be more."""


def service(workload: Workload, options: Options) -> Manifest | None:
    """Its endpoints are the pods in service. The gateway needs none of it: it is given the pods' addresses."""
    exposure = workload.exposure
    if exposure is None:
        return None
    spec: JSON = {
        "type": exposure.type,
        "selector": names.matching(workload),
        "ports": [{"name": "http", "protocol": "TCP", "port": exposure.port, "targetPort": "http"}],
    }
    # Admission refuses the others; should one come here all the same, it must not get onto the cluster.
    if permitted := [address for address in exposure.external_ips if options.permits(address)]:
        spec["externalIPs"] = permitted
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(workload, options),
        "spec": spec,
    }


def autoscaler(workload: Workload, options: Options) -> Manifest | None:
    """None where the number of replicas is given, zero included."""
    if not 0 < workload.replicas < workload.most:
        return None
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.root(workload)}
    target = {"type": "Utilization", "averageUtilization": CPU_UTILISATION}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(workload, options),
        "spec": {
            "scaleTargetRef": deployment,
            "minReplicas": workload.replicas,
            "maxReplicas": workload.most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def _metadata(workload: Workload, options: Options) -> Metadata:
    return metadata(workload, options, name=names.root(workload), namespace=options.namespace_of(workload.group))
