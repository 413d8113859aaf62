"""What a container may use, spelled as Kubernetes itself would, so that what it stores is what we sent."""

import math

from services.deployer.platforms.kubernetes.manifests.manifest import JSON
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import Resources

_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("k", "M", "G", "T", "P", "E")


def resources(asked: Resources, options: Options, *, gpu: bool = True) -> JSON:
    """Limits equal to requests, of the CPU as well: a replica gets what admission has reserved for it, the same on a
    crowded node as on an empty one, so what was measured with one replica holds for ten. And the pod is then of the
    class Guaranteed, which a node that runs short takes last."""
    amounts = {"cpu": cores(asked.cpu)}
    if asked.memory:
        amounts["memory"] = size(asked.memory)
    if gpu and asked.gpu:
        amounts |= _cards(asked.gpu, options)
    return {"requests": amounts, "limits": amounts}


def _cards(gpu: float, options: Options) -> dict[str, str]:
    if options.gpu_fraction_resource is not None and gpu % 1:
        return {options.gpu_fraction_resource: count(math.ceil(gpu * options.gpu_fraction_units))}
    # Where cards are not shared admission refuses a fraction; one from before that gets no less than it was promised.
    return {options.gpu_resource: count(math.ceil(gpu))}


def cores(value: float) -> str:
    """To the thousandth of a core, which is as fine as it gets: `1`, `500m`."""
    thousandths = max(1, round(value * 1000))
    return f"{thousandths}m" if thousandths % 1000 else count(thousandths // 1000)


def size(value: int) -> str:
    """Bytes: `2Gi`, `1500M`."""
    return _shortened(value, 1024, _BINARY) if value % 1024 == 0 else count(value)


def count(value: int) -> str:
    return _shortened(value, 1000, _DECIMAL)


def _shortened(value: int, step: int, suffixes: tuple[str, ...]) -> str:
    suffix = ""
    for larger in suffixes:
        if value == 0 or value % step:
            break
        value, suffix = value // step, larger
    return f"{value}{suffix}"
