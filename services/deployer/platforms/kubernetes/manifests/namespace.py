"""A group's namespace. It admits only pods that keep to the restricted standard, whoever makes them."""

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests.manifest import Manifest
from services.deployer.platforms.kubernetes.options import Options


def namespace(options: Options, group: str) -> Manifest:
    """To be applied only where `options.own_namespaces`."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace_of(group),
            "labels": {names.MANAGED_BY: names.MANAGER, names.GROUP: group, names.POD_SECURITY: "restricted"},
        },
    }
