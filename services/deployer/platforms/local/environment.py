"""What a replica finds in its environment, and its command line with that filled in.

Pure. From the deployer's own environment a replica inherits only what any program needs; settings and secrets of the
platform are `MOORAGE_*` there and never pass.
"""

import re
from collections.abc import Mapping, Sequence

from services.deployer.platforms.platform import Workload

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
REFERENCE = re.compile(r"\$(\$?)\(([A-Za-z_][A-Za-z0-9_]*)\)")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in INHERITED if name in environ}


def describe(
    workload: Workload, *, replica_id: str, address: str, port: int, node: str, area: str, model_path: str | None
) -> dict[str, str]:
    """Who the replica is and what it serves: Cube-Studio's names, and the same under `MOORAGE_`."""
    template, model = workload.template, workload.template.model
    served = {
        "ENV": template.stage,
        "MODEL_NAME": model.name if model else "",
        "MODEL_VERSION": str(model.version) if model else "",
        "MODEL_IMAGES": template.image,
        "AREA": area,
    }
    if model_path is not None:
        served["MODEL_PATH"] = model_path
    place = {
        "NODE_NAME": node,
        "POD_NAME": replica_id,
        "POD_NAMESPACE": workload.group,
        "POD_IP": address,
        "HOST_IP": address,
    }
    return {
        **{f"KUBEFLOW_{name}": value for name, value in served.items()},
        **{f"K8S_{name}": value for name, value in place.items()},
        **{f"MOORAGE_{name}": value for name, value in {**served, **place}.items()},
        "MOORAGE_DEPLOYMENT": workload.id,
        "MOORAGE_VERSION": str(workload.version),
        "MOORAGE_HOST": address,
        "MOORAGE_PORT": str(port),
    }


def threads(cpu: float) -> dict[str, str]:
    """Numeric libraries start a thread per core of the machine unless told what is theirs."""
    return dict.fromkeys(THREADS, str(max(1, int(cpu))))


def expand(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Fill in `$(NAME)` as Kubernetes does: `$$(NAME)` is left as `$(NAME)`, an unknown name as it stands."""

    def fill(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        return f"$({name})" if escaped else env.get(name, match[0])

    return [REFERENCE.sub(fill, word) for word in argv]
