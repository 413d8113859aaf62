"""Claims on volumes, and the volumes of NFS folders. What a pod mounts of them is `pod`'s.

A pod of the restricted standard may not mount NFS by itself; it takes a PersistentVolume, which belongs to no
namespace and so to no Deployment: it is found by its labels and deleted on its own.
"""

from collections.abc import Mapping

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests.manifest import JSON, Manifest, metadata
from services.deployer.platforms.kubernetes.manifests.resources import size
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import LabelledClaim, Nfs, Workload


def volumes(workload: Workload, options: Options) -> list[Manifest]:
    """A volume for each NFS folder. Only the claim made for it can take it, and its files outlive it."""
    return [_nfs_volume(workload, options, name, source) for name, source in _nfs(workload)]


def claims(workload: Workload, options: Options) -> list[Manifest]:
    """A claim for each NFS folder, and those on volumes that somebody else has made."""
    labelled = {names.labelled_claim(source): source for source in _labelled(workload)}
    return [
        *(_nfs_claim(workload, options, name, source) for name, source in _nfs(workload)),
        *(_labelled_claim(workload, options, name, source) for name, source in labelled.items()),
    ]


def shared(manifest: Manifest) -> bool:
    """Whether it may have other owners too: a claim on labelled volumes, which all who ask for the same have in common.

    Each owner applies it as a field manager of its own, so that none takes another's reference away.
    """
    return manifest["kind"] == "PersistentVolumeClaim" and names.UID not in manifest["metadata"]["labels"]


def _nfs(workload: Workload) -> list[tuple[str, Nfs]]:
    return [(each.name, each.source) for each in workload.template.volumes if isinstance(each.source, Nfs)]


def _labelled(workload: Workload) -> list[LabelledClaim]:
    return [each.source for each in workload.template.volumes if isinstance(each.source, LabelledClaim)]


def _nfs_volume(workload: Workload, options: Options, volume: str, source: Nfs) -> Manifest:
    name = names.nfs_volume(workload, volume, source)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata(workload, options, name=name, namespace=None, labels={names.VOLUME: volume}),
        "spec": {
            "capacity": {"storage": size(source.storage)},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": options.namespace_of(workload.group), "name": name},
            "nfs": {"server": source.server, "path": source.path},
        },
    }


def _nfs_claim(workload: Workload, options: Options, volume: str, source: Nfs) -> Manifest:
    name = names.nfs_volume(workload, volume, source)
    namespace = options.namespace_of(workload.group)
    labels = {names.VOLUME: volume}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(workload, options, name=name, namespace=namespace, labels=labels),
        "spec": _claim(labels={**names.matching(workload), **labels}, storage=source.storage),
    }


def _labelled_claim(workload: Workload, options: Options, name: str, source: LabelledClaim) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": options.namespace_of(workload.group),
            "labels": {names.MANAGED_BY: names.MANAGER},
        },
        "spec": _claim(labels=source.labels, storage=source.storage),
    }


def _claim(*, labels: Mapping[str, str], storage: int) -> JSON:
    return {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",  # a volume that is there; none is to be made by the cluster's default class
        "selector": {"matchLabels": dict(sorted(labels.items()))},
        "resources": {"requests": {"storage": size(storage)}},
    }
