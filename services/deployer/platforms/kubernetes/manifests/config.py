"""What a pod is given to read: environment, the model's address, a login for its image, files in `/config/`."""

import json
from base64 import b64encode
from collections.abc import Mapping

from services.deployer.platforms import environment
from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests import mounts
from services.deployer.platforms.kubernetes.manifests.manifest import Manifest, metadata
from services.deployer.platforms.kubernetes.options import PORT, Options
from services.deployer.platforms.platform import PullSecret, Workload

TERMINATION_LOG = "/dev/termination-log"
MODEL_URL = "MOORAGE_MODEL_URL"
"""The model's signed address: for the step that pulls it."""


def facts(workload: Workload, options: Options) -> dict[str, str]:
    """What the platform tells every replica in its environment, but for where it is."""
    told = environment.served(workload, port=PORT, area=options.area, model_path=mounts.model_path(workload))
    return {**told, "MOORAGE_TERMINATION_LOG": TERMINATION_LOG}


def environment_name(workload: Workload, options: Options) -> str:
    return names.environment(workload, _told(workload, options))


def environment_of(workload: Workload, options: Options, *, model_url: str | None) -> Manifest:
    """Facts and hidden variables. In an object, since each variable in the template is written out with every change of
    every pod, and once more in the list of who manages it; in one, since each costs the API server a call a version.

    Another content makes another name, but for the address, which is renewed when it has aged.
    """
    data = dict(sorted(_told(workload, options).items()))
    if model_url is not None:
        data[MODEL_URL] = model_url
    return _secret(workload, options, name=environment_name(workload, options), immutable=model_url is None, data=data)


def _told(workload: Workload, options: Options) -> dict[str, str]:
    """The template's own word goes before a default, and ours before the template's."""
    defaults = environment.defaults(workload.template.resources.cpu)
    return {**defaults, **workload.template.secrets, **facts(workload, options)}


def pull_secret(workload: Workload, options: Options) -> Manifest | None:
    """What kubelet shows to the registry of the image."""
    given = workload.template.pull_secret
    if given is None:
        return None
    made = _secret(
        workload,
        options,
        name=names.pull_secret(workload, given),
        immutable=True,
        data={".dockerconfigjson": _docker_config(given)},
    )
    return {**made, "type": "kubernetes.io/dockerconfigjson"}


def files(workload: Workload, options: Options) -> Manifest | None:
    """Immutable, as other files make another name: no kubelet has to watch it."""
    if not workload.template.files:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            workload, options, name=names.files(workload), namespace=options.namespace_of(workload.group)
        ),
        "immutable": True,
        "data": dict(sorted(workload.template.files.items())),
    }


def _secret(workload: Workload, options: Options, *, name: str, immutable: bool, data: Mapping[str, str]) -> Manifest:
    label = {names.CONTENT: names.content(name)}
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(
            workload, options, name=name, namespace=options.namespace_of(workload.group), labels=label
        ),
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
    return {**made, "immutable": True} if immutable else made


def _docker_config(given: PullSecret) -> str:
    login = {
        "username": given.username,
        "password": given.password,
        "auth": b64encode(f"{given.username}:{given.password}".encode()).decode(),
    }
    return json.dumps({"auths": {given.server: login}}, separators=(",", ":"))
