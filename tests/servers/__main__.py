"""Real servers by one command, for developers and for CI.

python -m tests.servers build                              fetch and build all that can be had here, into the cache
python -m tests.servers run kafka kubernetes kwok          start them, say how to reach them, wait for Ctrl-C
python -m tests.servers run kafka kwok -- COMMAND ...      run COMMAND with MOORAGE_BUS, KUBECONFIG and kubectl set
python -m tests.servers run node -- make up                the platform on a real node, with the rights of our chart

All that was started is ended afterwards. `kwok` and `node` bring `kubernetes` along; `node` needs root.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest

from tests.servers import cache, chart, go, images, kafka, kubernetes, kwok, node, oidc, packages

SERVERS = ("kafka", "kubernetes", "kwok", "node")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="fetch and build what is not in the cache")
    run = verbs.add_parser("run", help="start servers, run a command with them, end them")
    run.add_argument("servers", nargs="+", choices=SERVERS)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:split])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us, what we started ends with us
    if given.verb == "build":
        return build()
    return run_with(given.servers, arguments[split + 1 :])


def build() -> int:
    """What cannot be had is skipped, or fails where everything is required, once all else is there."""
    made: dict[str, Callable[[], object]] = {"Debian packages": packages.install}
    made |= {f"Kafka {kafka.VERSION}": kafka.jars}
    made |= {f"{each.name} {each.version}": each.built for each in go.ALL}
    made |= {f"OpenID provider {oidc.VERSION}": oidc.installed}
    made |= {f"image {each.name}": each.archive for each in images.ALL}
    failed = False
    print(f"Servers for the tests, in {cache.folder()}")
    for number, (name, make) in enumerate(made.items(), start=1):
        start = time.monotonic()
        print(f"[{number}/{len(made)}] {name}", end=" ", flush=True)
        try:
            make()
        except pytest.skip.Exception as reason:
            print(f"- skipped: {reason}", flush=True)
        except pytest.fail.Exception as reason:
            failed = True
            print(f"- FAILED: {reason}", flush=True)
        else:
            print(f"- {time.monotonic() - start:.0f} s", flush=True)
    return int(failed)


def run_with(servers: Sequence[str], command: Sequence[str]) -> int:
    with ExitStack() as stack:
        try:
            environment = started(servers, stack)
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            print(reason, file=sys.stderr)
            return 1
        try:
            if command:
                return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
            print("\n".join(f"export {name}={value}" for name, value in environment.items()), flush=True)
            signal.pause()
        except KeyboardInterrupt:
            return 130
    return 0


def started(servers: Sequence[str], stack: ExitStack) -> dict[str, str]:
    """What to add to the environment of whoever is to use them; `stack` ends them."""
    environment = {}
    if "kafka" in servers:
        broker = stack.enter_context(kafka.running())
        environment["MOORAGE_BUS"] = f"kafka://{broker.address}"
    if set(servers) - {"kafka"}:
        address = {"address": node.HOST_ADDRESS} if "node" in servers else {}
        plane = stack.enter_context(kubernetes.running(**address))
        tools = go.KUBERNETES.program("kubectl").parent
        environment |= {"KUBECONFIG": str(plane.kubeconfig), "PATH": f"{tools}:{os.environ['PATH']}"}
        if "kwok" in servers:
            stack.enter_context(kwok.running(plane))
        if "node" in servers:
            environment |= platform_on(plane, stack.enter_context(node.running(plane)))
    return environment


def platform_on(plane: kubernetes.ControlPlane, found: node.Node) -> dict[str, str]:
    """The settings of a platform on this node: our chart's service account, our model server's image."""
    chart.install(plane.admin)
    found.load(images.MODEL_SERVER)
    return {
        "MOORAGE_PLATFORM": "kubernetes",
        "MOORAGE_KUBERNETES_CONFIG": str(plane.admin.kubeconfig_for(chart.SERVICE_ACCOUNT)),
        "MOORAGE_KUBERNETES_MODEL_SERVER_IMAGE": images.MODEL_SERVER.reference,
        "MOORAGE_REGISTRY_ADDRESS": found.host_address,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
