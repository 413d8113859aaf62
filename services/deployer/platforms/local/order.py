"""What a shim is told to run: the steps, their environment and their limits."""

import os
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from services.deployer.platforms import environment
from services.deployer.platforms.local.host import MARK, Host
from services.deployer.platforms.local.state import Record
from services.deployer.platforms.platform import Workload


def order(workload: Workload, *, record: Record, run: Path, work: Path, host: Host) -> dict[str, object]:
    """The order for one run. It holds secrets: it goes to the shim's standard input and nowhere else."""
    template, options = workload.template, host.options
    steps: list[dict[str, object]] = []
    model_path = None
    if record.model_digest is not None:
        model_path = str(host.models / record.model_digest.removeprefix("sha256:"))
        pull = [host.python, "-m", "modelserver.pull", "--digest", record.model_digest, "--into", str(host.models)]
        # The address is signed: on a command line every user of the machine would see it, and the server needs it not.
        signed = {"MOORAGE_MODEL_URL": host.artifact_url(record.model_digest)}
        steps.append({"name": "pull", "argv": pull, "env": signed, "unless": model_path})
    env = {
        **environment.inherited(os.environ),
        **environment.defaults(template.resources.cpu),
        **template.env,
        **template.secrets,
        "PYTHONPATH": _python_path({**template.env, **template.secrets}),
        **environment.served(workload, port=record.port, area=options.area, model_path=model_path),
        **environment.place(
            node=options.node, name=record.id, namespace=workload.group, address=record.host, host=record.host
        ),
        "MOORAGE_TERMINATION_LOG": str(run / "termination"),
        MARK: record.nonce,
    }
    argv = environment.expand((*template.command, *template.args), env)
    if argv[0] == "python":
        argv[0] = host.python
    steps.append({"name": "serve", "argv": argv, "env": {}, "unless": None})
    return {
        "steps": steps,
        "env": env,
        "cwd": str(work),
        "memory": record.memory,
        "grace": record.grace_seconds,
        "log_bytes": options.log_bytes,
        "log_files": options.log_files,
    }


def _python_path(env: Mapping[str, str]) -> str:
    return os.pathsep.join(part for part in (env.get("PYTHONPATH", ""), _model_server()) if part)


@cache
def _model_server() -> str:
    """The folder from which `modelserver` can be imported: it may be a checkout that is not installed."""
    found = find_spec("modelserver")
    return str(Path(found.origin).parents[1]) if found and found.origin else ""
