"""The template of a version's pods: pull the model, serve it, under the restricted Pod Security Standard.

Two steps, as on every platform: the init container fetches the model and checks its digest, and alone is told the
signed address; the replica finds the files. Everything here takes a fresh pod to change, which is what `revision` is
made from.
"""

import hashlib
import json
import math

from services.deployer.platforms import environment
from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests import mounts
from services.deployer.platforms.kubernetes.manifests.config import MODEL_URL, TERMINATION_LOG, environment_name, facts
from services.deployer.platforms.kubernetes.manifests.manifest import JSON
from services.deployer.platforms.kubernetes.manifests.resources import resources
from services.deployer.platforms.kubernetes.options import PORT, Options
from services.deployer.platforms.platform import Toleration, Workload

PROBE_SECONDS = 2
"""How long an answer to a probe may take."""
PROBE_FAILURES = 3
DEAF_PERIOD, DEAF_FAILURES = 5, 6
"""A replica that has not answered well for half a minute is started again. The local platform leaves alone one that
answers no; a kubelet tells no difference, and to a bare connection the kernel says yes for a server that hangs."""


def template(workload: Workload, options: Options) -> JSON:
    """A PodTemplateSpec."""
    made: JSON = {
        "metadata": {
            "labels": names.labels(workload, installation=options.installation),
            "annotations": {names.TEMPLATE: workload.template.digest},
        },
        "spec": _spec(workload, options),
    }
    text = json.dumps(made, sort_keys=True, separators=(",", ":"))
    made["metadata"]["annotations"][names.REVISION] = hashlib.sha256(text.encode()).hexdigest()
    return made


def _spec(workload: Workload, options: Options) -> JSON:
    asked = workload.template
    spec: JSON = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "readinessGates": [{"conditionType": names.IN_SERVICE}],
        "terminationGracePeriodSeconds": math.ceil(asked.grace_seconds) + options.drain_seconds,
        "securityContext": _pod_security(options),
    }
    if digest := mounts.model_digest(workload):
        spec["initContainers"] = [_pull(workload, options, digest=digest)]
    spec["containers"] = [_replica(workload, options)]
    spec["volumes"] = mounts.volumes(workload)
    if secrets := _pull_secrets(workload, options):
        spec["imagePullSecrets"] = secrets
    if labels := _node_labels(workload, options):
        spec["nodeSelector"] = labels
    if asked.tolerations:
        spec["tolerations"] = [_toleration(each) for each in asked.tolerations]
    return spec


# Containers


def _pull(workload: Workload, options: Options, *, digest: str) -> JSON:
    address = {"secretKeyRef": {"name": environment_name(workload, options), "key": MODEL_URL}}
    return {
        "name": names.INIT_CONTAINER,
        "image": options.model_server_image,
        "command": ["python", "-m", "modelserver.pull", "--digest", digest, "--into", mounts.MODELS],
        "env": [
            {"name": MODEL_URL, "valueFrom": address},
            {"name": "MOORAGE_TERMINATION_LOG", "value": TERMINATION_LOG},
        ],
        # What the replica has anyway. A pod asks for the most of any step, so it costs nothing, and without it the
        # pod would not be of the class Guaranteed.
        "resources": resources(workload.template.resources, options, gpu=False),
        "securityContext": _container_security(read_only=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts.of_pull(),
    }


def _replica(workload: Workload, options: Options) -> JSON:
    asked = workload.template
    probe = {
        "httpGet": {"path": asked.probe.path, "port": asked.probe.port},
        "periodSeconds": 1,
        "timeoutSeconds": PROBE_SECONDS,
    }
    container: JSON = {"name": names.CONTAINER, "image": asked.image or options.model_server_image}
    if asked.command:
        container["command"] = list(asked.command)
    if asked.args:
        container["args"] = list(asked.args)
    if options.drain_seconds:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": options.drain_seconds}}}
    return container | {
        "envFrom": [{"secretRef": {"name": environment_name(workload, options)}}],
        "env": _environment(workload, options),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources(asked.resources, options),
        "startupProbe": {**probe, "failureThreshold": max(1, math.ceil(asked.probe.start_seconds))},
        "readinessProbe": {**probe, "failureThreshold": PROBE_FAILURES},
        "livenessProbe": {**probe, "periodSeconds": DEAF_PERIOD, "failureThreshold": DEAF_FAILURES},
        "securityContext": _container_security(read_only=not asked.image),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts.of_replica(workload),
    }


def _environment(workload: Workload, options: Options) -> list[JSON]:
    """What the user shows, and where the replica is. All else stands in the Secret; this list goes before that."""
    ours = _place()
    if mounts.model_digest(workload):
        ours[MODEL_URL] = _value("")  # the pull's alone
    hidden = facts(workload, options).keys() | workload.template.secrets.keys()
    every = {name: _value(value) for name, value in workload.template.env.items() if name not in hidden} | ours
    return [{"name": name, **every[name]} for name in sorted(every)]


def _place() -> dict[str, JSON]:
    """The cluster fills in one name for each fact; the others refer to that, which is shorter."""
    fields = environment.place(
        node="spec.nodeName",
        name="metadata.name",
        namespace="metadata.namespace",
        address="status.podIP",
        host="status.hostIP",
    )
    first = {field: name for name, field in reversed(fields.items())}
    return {
        name: {"valueFrom": {"fieldRef": {"fieldPath": field}}}
        if name == first[field]
        else {"value": f"$({first[field]})"}
        for name, field in fields.items()
    }


def _value(text: str) -> JSON:
    """Escaped: on other platforms only the command line is expanded. No value is the empty one."""
    return {"value": environment.literal(text)} if text else {}


# As whom, and where


def _pod_security(options: Options) -> JSON:
    security: JSON = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if options.user is not None:
        # The group lets it write to a fresh claim, whose files are root's.
        security |= {
            "runAsUser": options.user,
            "fsGroup": options.user,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return security


def _container_security(*, read_only: bool) -> JSON:
    """Our own image writes to volumes only; of others nobody knows."""
    security: JSON = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {**security, "readOnlyRootFilesystem": True} if read_only else security


def _node_labels(workload: Workload, options: Options) -> dict[str, str]:
    asked = workload.template
    labels = dict(sorted(asked.node_selector.items()))
    if asked.resources.gpu and asked.resources.gpu_model:
        labels[options.gpu_model_label] = asked.resources.gpu_model
    return labels


def _toleration(of: Toleration) -> JSON:
    fields = {
        "key": of.key,
        "operator": of.operator,
        "value": of.value,
        "effect": of.effect,
        "tolerationSeconds": of.seconds,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _pull_secrets(workload: Workload, options: Options) -> list[JSON]:
    given = workload.template.pull_secret
    own = [names.pull_secret(workload, given)] if given is not None else []
    return [{"name": name} for name in (*own, *options.pull_secrets)]
