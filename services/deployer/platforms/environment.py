"""What a replica finds in its environment, the same on every platform, and its command line with that filled in.

Pure. A place's facts are generic: text where the platform knows them, a reference where Kubernetes fills them in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from services.deployer.platforms.platform import Workload

Fact = TypeVar("Fact")

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What any program needs. The deployer's settings and secrets are `MOORAGE_*` there and never pass."""
    return {name: environ[name] for name in INHERITED if name in environ}


def defaults(cpu: float) -> dict[str, str]:
    """What the template may set otherwise."""
    return {
        **dict.fromkeys(THREADS, str(max(1, int(cpu)))),  # or numeric libraries start one per core of the machine
        "PYTHONUNBUFFERED": "1",  # or the last lines before a crash are lost
    }


def served(workload: Workload, *, port: int, area: str, model_path: str | None) -> dict[str, str]:
    """What the replica serves: Cube-Studio's names, and the same under `MOORAGE_`."""
    template, model = workload.template, workload.template.model
    facts = {
        "ENV": template.stage,
        "MODEL_NAME": model.name if model else "",
        "MODEL_VERSION": str(model.version) if model else "",
        "MODEL_IMAGES": template.image,
        "AREA": area,
    }
    if model_path is not None:
        facts["MODEL_PATH"] = model_path
    return {
        **_named(facts, "KUBEFLOW_"),
        "MOORAGE_DEPLOYMENT": workload.id,
        "MOORAGE_VERSION": str(workload.version),
        "MOORAGE_PORT": str(port),
    }


def place(*, node: Fact, name: Fact, namespace: Fact, address: Fact, host: Fact) -> dict[str, Fact]:
    """Where the replica is: Cube-Studio's names, and the same under `MOORAGE_`. It listens on `address`."""
    facts = {"NODE_NAME": node, "POD_NAME": name, "POD_NAMESPACE": namespace, "POD_IP": address, "HOST_IP": host}
    return {**_named(facts, "K8S_"), "MOORAGE_HOST": address}


def _named(facts: Mapping[str, Fact], prefix: str) -> dict[str, Fact]:
    return {each + name: fact for each in (prefix, "MOORAGE_") for name, fact in facts.items()}


def expand(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Fill in `$(NAME)` as Kubernetes does: an unknown name is left as it stands, and `$$` is a `$` that is meant."""

    def fill(match: re.Match[str]) -> str:
        reference, name = match.groups()
        return "$" if reference == "$" else env.get(name, match[0])

    return [REFERENCE.sub(fill, word) for word in argv]


def literal(text: str) -> str:
    """`text` so that expanding it gives it back."""
    return text.replace("$", "$$")
