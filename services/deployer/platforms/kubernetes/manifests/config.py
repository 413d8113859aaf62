"""What a pod is given to read: environment, the model's address, a login for its image, files in `/config/`."""

import json
from base64 import b64encode

from services.deployer.platforms import environment
from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests import mounts
from services.deployer.platforms.kubernetes.manifests.manifest import Manifest, Metadata, metadata
from services.deployer.platforms.kubernetes.options import PORT, Options
from services.deployer.platforms.platform import PullSecret, Workload

TERMINATION_LOG = "/dev/termination-log"
MODEL_URL = "model-url"
"""The key of the model's signed address. No variable of the environment can be called that."""


def secret(workload: Workload, options: Options, *, model_url: str | None) -> Manifest | None:
    """None when there is nothing to keep. It is applied again when the address in it has aged."""
    data = {name: _encoded(value) for name, value in sorted(workload.template.secrets.items())}
    if model_url is not None:
        data[MODEL_URL] = _encoded(model_url)
    if not data:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _of_template(workload, options, name=names.config(workload)),
        "type": "Opaque",
        "data": data,
    }


def facts(workload: Workload, options: Options) -> dict[str, str]:
    """What every replica is told in its environment, but for where it is. In one object, since each variable in the
    template is written out with every change of every pod, and once more in the list of who manages it."""
    told = environment.served(workload, port=PORT, area=options.area, model_path=mounts.model_path(workload))
    return {
        **environment.defaults(workload.template.resources.cpu),
        **told,
        "MOORAGE_TERMINATION_LOG": TERMINATION_LOG,
    }


def environment_of(workload: Workload, options: Options) -> Manifest:
    """Immutable, as other facts make another name."""
    told = facts(workload, options)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            workload,
            options,
            name=names.environment(workload, told),
            namespace=options.namespace_of(workload.group),
        ),
        "immutable": True,
        "data": dict(sorted(told.items())),
    }


def pull_secret(workload: Workload, options: Options) -> Manifest | None:
    """What kubelet shows to the registry of the image."""
    given = workload.template.pull_secret
    if given is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _of_template(workload, options, name=names.pull_secret(workload)),
        "type": "kubernetes.io/dockerconfigjson",
        "immutable": True,
        "data": {".dockerconfigjson": _encoded(_docker_config(given))},
    }


def files(workload: Workload, options: Options) -> Manifest | None:
    """Immutable, as other files make another name: no kubelet has to watch it."""
    if not workload.template.files:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _of_template(workload, options, name=names.config(workload)),
        "immutable": True,
        "data": dict(sorted(workload.template.files.items())),
    }


def _of_template(workload: Workload, options: Options, *, name: str) -> Metadata:
    label = {names.TEMPLATE: names.short(workload.template.digest)}
    return metadata(workload, options, name=name, namespace=options.namespace_of(workload.group), labels=label)


def _docker_config(given: PullSecret) -> str:
    login = {
        "username": given.username,
        "password": given.password,
        "auth": _encoded(f"{given.username}:{given.password}"),
    }
    return json.dumps({"auths": {given.server: login}}, separators=(",", ":"))


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()
