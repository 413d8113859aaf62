"""Becomes Envoy, its bootstrap made of the options; the entry point of its image. Nothing is written to disk.

python -m deploy.envoy --xds gateway:18000 --snapshot 127.0.0.1:18001 --registry registry:8080 …
"""

import argparse
import os

from deploy.envoy import SERVICES, Address, render


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.envoy", description="Runs Envoy.")
    parser.add_argument("--listen", type=_address, default="0.0.0.0:8080", help="the front door (%(default)s)")
    parser.add_argument("--admin", type=_address, default="127.0.0.1:9901", help="Envoy's admin (%(default)s)")
    parser.add_argument("--xds", type=_address, default="gateway:18000", help="the gateway's xDS server (%(default)s)")
    parser.add_argument(
        "--snapshot", type=_address, default="127.0.0.1:18001", help="the snapshot server beside it (%(default)s)"
    )
    for name in SERVICES:
        parser.add_argument(f"--{name}", type=_address, default=f"{name}:8080", help="a service (%(default)s)")
    parser.add_argument("--node-id", default=os.uname().nodename, help="one of its own for each Envoy (the host name)")
    parser.add_argument(
        "--trusted-proxies", type=int, default=0, help="proxies that every request passes before Envoy (%(default)s)"
    )
    parser.add_argument("--log-level", default="warning")
    options = parser.parse_args()

    (address, port), (admin_address, admin_port) = options.listen, options.admin
    config = render(
        port=port,
        admin_port=admin_port,
        xds=options.xds,
        snapshot=options.snapshot,
        services={name: getattr(options, name) for name in SERVICES},
        address=address,
        admin_address=admin_address,
        node_id=options.node_id,
        trusted_proxies=options.trusted_proxies,
    )
    # Hot restart needs shared memory, and another process to hand over to.
    argv = ["envoy", "--config-yaml", config, "--log-level", options.log_level, "--disable-hot-restart"]
    os.execvp("envoy", argv)  # noqa: S606 - no shell is wanted


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
