"""docker-compose.yml, read as `docker compose` reads it. There is no Docker engine here: it is never brought up."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.deployer.settings import DeployerSettings
from services.gateway.settings import GatewaySettings
from services.metrics.settings import MetricsSettings
from services.registry.settings import RegistrySettings
from shared.settings import ServiceSettings
from tests.servers.go import COMPOSE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "compose.env.example"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "registry": RegistrySettings,
    "deployer": DeployerSettings,
    "gateway": GatewaySettings,
    "metrics": MetricsSettings,
}
OURS = {*SETTINGS, "migrations", "snapshot", "envoy"}
SECRET_KEY = "c2l4dGVlbiB0aW1lcyB0d28gaXMgdGhpcnR5LXR3byE="


def example() -> dict[str, str]:
    """What the example leaves to be filled in, filled in."""
    needed = re.findall(r"^([A-Z_]+)=$", EXAMPLE.read_text(), re.MULTILINE)
    return dict.fromkeys(needed, SECRET_KEY)


def read(env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [COMPOSE.program("compose-config"), ROOT / "docker-compose.yml"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    done = read(example())
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_there_is_no_default_for_a_secret() -> None:
    for name in example():
        done = read({key: value for key, value in example().items() if key != name})
        assert f"required variable {name} is missing a value: see deploy/compose.env.example" in done.stderr


def test_what_holds_a_secret_is_filled_in_from_outside(project: dict[str, Any]) -> None:
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    secret = re.compile("PASSWORD|SECRET|DATABASE_URL|TOKEN")
    held = [
        value
        for service in raw["services"].values()
        for name, value in service.get("environment", {}).items()
        if secret.search(name)
    ]
    assert held
    assert all(":?" in value for value in held)
    assert "MOORAGE_SECRET_KEY" not in project["services"]["snapshot"]["environment"]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_service_takes_its_settings(project: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = project["services"][name]["environment"]
    for key in [key for key in os.environ if key.startswith("MOORAGE_")]:
        monkeypatch.delenv(key)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    known = {f"MOORAGE_{field.upper()}" for field in SETTINGS[name].model_fields}
    assert set(given) <= known
    assert SETTINGS[name]().bus == "kafka://kafka:9092"  # type: ignore[call-arg]  # from the environment


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_are_hardened_and_made_of_what_is_here(project: dict[str, Any], name: str) -> None:
    service = project["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    if name != "envoy":
        assert find_spec(service["command"][0])


def test_everything_says_whether_it_is_well_and_starts_in_order(project: dict[str, Any]) -> None:
    services = project["services"]
    assert {name for name, each in services.items() if each.get("healthcheck", {}).get("disable")} == {"migrations"}
    for name in SETTINGS:
        needed = services[name]["depends_on"]
        assert needed["migrations"]["condition"] == "service_completed_successfully"
        assert needed["kafka"]["condition"] == "service_healthy"
    assert "depends_on" not in services["envoy"], "with all our processes dead it serves"
    assert not services["snapshot"].get("depends_on")


def test_only_the_front_door_and_a_page_on_loopback_are_published(project: dict[str, Any]) -> None:
    published = {
        (name, port["target"], port.get("host_ip", ""))
        for name, service in project["services"].items()
        for port in service.get("ports", [])
    }
    assert published == {("envoy", 8080, ""), ("grafana", 3000, "127.0.0.1")}


def test_replicas_listen_where_the_deployer_is(project: dict[str, Any]) -> None:
    deployer = project["services"]["deployer"]
    assert deployer["environment"]["MOORAGE_LOCAL_ADDRESS"] == deployer["networks"]["default"]["ipv4_address"]


def test_prometheus_and_grafana_ask_whom_there_is(project: dict[str, Any]) -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for each in job["static_configs"] for target in each["targets"]}
    hosts = {target.partition(":")[0] for target in targets} - {"localhost"}
    assert hosts == {*SETTINGS, "envoy"}
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in project["services"]
