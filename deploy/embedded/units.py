"""The processes of an installation: how each is started and when it is ready. No side effects here."""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.state import Installation
from deploy.envoy import render
from shared.process import probe_http, probe_tcp

SERVICES = ("registry", "deployer", "gateway", "metrics")

Ready = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Unit:
    """One process. `after` names those that must be ready before it is started."""

    name: str
    argv: tuple[str, ...]
    ready: Ready
    env: dict[str, str] = field(default_factory=dict, repr=False)
    after: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"


def units(here: Installation) -> tuple[Unit, ...]:
    """All processes, in the order in which they are started; they are stopped in the opposite one."""
    return (
        Unit(
            name="postgres",
            argv=tuple(here.postgres.argv),
            ready=lambda: probe_tcp("127.0.0.1", here.ports["postgres"], deadline=1),
            stop_signal="SIGINT",  # a fast shutdown: SIGTERM would wait for every client to leave
        ),
        Unit(
            name="snapshot",
            argv=(sys.executable, "-m", "services.gateway.snapshot"),
            env=_base()
            | {
                "MOORAGE_SNAPSHOT_PATH": str(here.folder / "snapshot.db"),
                "MOORAGE_SNAPSHOT_PORT": str(here.ports["snapshot"]),
                "MOORAGE_XDS_ADDRESS": f"127.0.0.1:{here.ports['xds']}",
            },
            ready=lambda: probe_tcp("127.0.0.1", here.ports["snapshot"], deadline=1),
        ),
        Unit(
            name="envoy",
            argv=_envoy(here),
            env=_base(),
            ready=lambda: _answers(here.ports["envoy_admin"], "/ready"),
        ),
        *(
            Unit(
                name=name,
                argv=(sys.executable, "-m", f"services.{name}"),
                env=service_env(here, name),
                ready=lambda name=name: _answers(here.ports[name], "/readyz", host=_host(name)),  # type: ignore[misc]  # binds name
                after=("postgres",),
            )
            for name in SERVICES
        ),
    )


def _host(name: str) -> str:
    """Where a service listens. Replicas that are not on this machine need the registry, and nothing else of ours."""
    return os.environ.get("MOORAGE_REGISTRY_ADDRESS", "127.0.0.1") if name == "registry" else "127.0.0.1"


def service_env(here: Installation, name: str) -> dict[str, str]:
    """The settings of one service; each sees its own and the ones that all share."""
    shared = {
        "MOORAGE_DATABASE_URL": here.postgres.url,
        "MOORAGE_SECRET_KEY": here.secret_key,
        "MOORAGE_HOST": _host(name),
        "MOORAGE_PORT": str(here.ports[name]),
        "MOORAGE_PUBLIC_URL": here.url,
    }
    own = {
        "registry": {"MOORAGE_BLOB_FOLDER": str(here.folder / "blobs")},
        "deployer": {
            "MOORAGE_LOCAL_FOLDER": str(here.replicas),
            "MOORAGE_REGISTRY_URL": f"http://{_host('registry')}:{here.ports['registry']}",
        },
        "gateway": {
            "MOORAGE_XDS_PORT": str(here.ports["xds"]),
            "MOORAGE_SNAPSHOT_PATH": str(here.folder / "snapshot.db"),
        },
        "metrics": {"MOORAGE_ENVOY_ADMIN_URL": f"http://127.0.0.1:{here.ports['envoy_admin']}"},
    }
    # What the user has set for us (MOORAGE_LOG_LEVEL …) reaches the services; what we must decide wins.
    passed = {key: value for key, value in os.environ.items() if key.startswith("MOORAGE_")}
    return _base() | passed | shared | own[name]


def envoy_config(here: Installation) -> str:
    return render(
        port=here.port,
        admin_port=here.ports["envoy_admin"],
        xds=("127.0.0.1", here.ports["xds"]),
        snapshot=("127.0.0.1", here.ports["snapshot"]),
        services={name: (_host(name), here.ports[name]) for name in SERVICES},
        address=os.environ.get("MOORAGE_ADDRESS", "127.0.0.1"),
        trusted_proxies=int(os.environ.get("MOORAGE_TRUSTED_PROXIES", "0")),
    )


def _envoy(here: Installation) -> tuple[str, ...]:
    program = Path(sys.executable).with_name("envoy")
    # Two installations on one machine must not share a hot-restart domain.
    return (str(program), "-c", str(here.folder / "envoy.yaml"), "--log-level", "warning", "--disable-hot-restart")


def _base() -> dict[str, str]:
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in os.environ}


async def _answers(port: int, path: str, *, host: str = "127.0.0.1") -> bool:
    return await probe_http(host, port, path, deadline=2) == 200
