"""The Helm chart as the cluster gets it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.admin import Admin
from tests.servers.go import HELM

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "moorage"
NAMESPACE = "moorage-system"
SERVICE_ACCOUNT = f"{NAMESPACE}/moorage-deployer"
"""The deployer's, as `Admin.kubeconfig_for` takes it."""


def render(**deployer: Any) -> str:
    """All objects of a release in `NAMESPACE`, with these values of `deployer`, as YAML."""
    values = json.dumps({"deployer": deployer})
    argv = [HELM.program("helm"), "template", "moorage", CHART, "--namespace", NAMESPACE, "--values", "-"]
    done = subprocess.run(argv, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def install(admin: Admin, **deployer: Any) -> None:
    """Apply all of it. The admission policy takes hold a moment later."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    admin.kubectl("apply", "-f", "-", stdin=f"{json.dumps(namespace)}\n---\n{render(**deployer)}")


def lint() -> None:
    """Raises CalledProcessError with the linter's words."""
    subprocess.run([HELM.program("helm"), "lint", "--strict", "--quiet", CHART], capture_output=True, check=True)
