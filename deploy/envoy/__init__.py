"""Envoy's bootstrap: `render` fills the template `envoy.yaml` beside this file.

    config = render(
        port=8080, admin_port=19000,
        xds=("127.0.0.1", 18000), snapshot=("127.0.0.1", 18001),
        services={"registry": ("127.0.0.1", 9001), "deployer": …, "gateway": …, "metrics": …},
    )
    Path("envoy.yaml").write_text(config); run(["envoy", "-c", "envoy.yaml"])

Left out: starting Envoy (deploy/embedded does, and in its image `python -m deploy.envoy`), and everything that changes
while it runs (services/gateway/envoy).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from deploy.envoy.local_replies import local_reply_config

__all__ = ["SERVICES", "Address", "render"]

Address = tuple[str, int]

SERVICES = ("registry", "deployer", "gateway", "metrics")
"""The static clusters that the API's routes name."""

_TEMPLATE = Path(__file__).with_name("envoy.yaml")

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def render(
    *,
    port: int,
    admin_port: int,
    xds: Address,
    snapshot: Address,
    services: Mapping[str, Address],
    address: str = "0.0.0.0",
    admin_address: str = "127.0.0.1",
    node_id: str = "envoy",
    trusted_proxies: int = 0,
) -> str:
    """The bootstrap as YAML: `port` is the public one, all others are on loopback or inside the cluster.

    `trusted_proxies`: how many proxies each request has passed before Envoy, which then believes so many entries of
    X-Forwarded-For; nobody may reach Envoy by another way.
    Where the admin can be reached from elsewhere it does what the metrics service and probes need, and nothing more.
    """
    if missing := set(SERVICES) - set(services):
        raise ValueError(f"no address for {sorted(missing)}")
    clusters = [
        _control_plane("xds", xds),
        _control_plane("xds_snapshot", snapshot),
        *(_service(name, services[name]) for name in SERVICES),
    ]
    # JSON is YAML, and quotes itself.
    return Template(_TEMPLATE.read_text()).substitute(
        port=port,
        admin=json.dumps(_admin(admin_address, admin_port)),
        address=address,
        node_id=node_id,
        trusted_proxies=trusted_proxies,
        clusters=json.dumps(clusters),
        local_replies=json.dumps(local_reply_config()),
    )


def _admin(host: str, port: int) -> dict[str, Any]:
    admin: dict[str, Any] = {"address": {"socket_address": {"address": host, "port_value": port}}}
    if not host.startswith("127."):
        # A whole dump has the hashes of all tokens; with this mask it says when the bootstrap was loaded.
        allowed = ({"exact": "/ready"}, {"prefix": "/stats"}, {"prefix": "/config_dump?mask=last_updated&"})
        admin["allow_paths"] = list(allowed)
    return admin


def _control_plane(name: str, address: Address) -> dict[str, Any]:
    # The keepalive finds a control plane whose machine has gone; one whose process has gone says so itself.
    return _cluster(name, address) | {
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "3s"}}
                },
            }
        }
    }


def _service(name: str, address: Address) -> dict[str, Any]:
    thresholds = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 256}
    return _cluster(name, address) | {
        "circuit_breakers": {"thresholds": [thresholds]},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                # Below uvicorn's keep-alive of 5 s: did it close first, a request could meet a closing connection.
                "common_http_protocol_options": {"idle_timeout": "4s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _cluster(name: str, address: Address) -> dict[str, Any]:
    host, port = address
    # Names of Kubernetes services are looked up; a literal address needs no resolver and is there at once.
    literal = host.replace(".", "").isdigit() or ":" in host
    endpoint = {"address": {"socket_address": {"address": host, "port_value": port}}}
    return {
        "name": name,
        "type": "STATIC" if literal else "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
