"""The Deployment of one version: the root of all that is made for it.

It rolls by surge, as many above as admission has counted, and takes no pod away before another is in service, which is
what the pods' readiness gate says.
"""

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests import pod
from services.deployer.platforms.kubernetes.manifests.manifest import JSON, Manifest, metadata
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import Workload

FOR_EVER = 2**31 - 1
"""As progress deadline: none. What is too slow is the deployer's to say."""


def deployment(workload: Workload, options: Options, *, replicas: int | None) -> Manifest:
    """`replicas` is None where somebody else decides it, an autoscaler."""
    spec: JSON = {} if replicas is None else {"replicas": replicas}
    spec |= {
        "revisionHistoryLimit": 1,  # the history is the deployer's; one is left for people who look
        "progressDeadlineSeconds": FOR_EVER,
        "selector": {"matchLabels": names.matching(workload)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "template": pod.template(workload, options),
    }
    about = metadata(workload, options, name=names.root(workload), namespace=options.namespace_of(workload.group))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**about, "annotations": {names.GROUP: workload.group}},
        "spec": spec,
    }
