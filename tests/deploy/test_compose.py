"""docker-compose.yml, read as `docker compose` reads it. There is no Docker engine here: it is never brought up."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka.client import AIOKafkaClient

from services.deployer.settings import DeployerSettings
from services.gateway.settings import GatewaySettings
from services.metrics.settings import MetricsSettings
from services.registry.settings import RegistrySettings
from shared.settings import ServiceSettings
from tests.servers import kafka
from tests.servers.go import COMPOSE
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port
from tests.support.waiting import until

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
    assert SETTINGS[name]().bus == "kafka://kafka:9092"


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


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
async def test_kafka_starts_with_what_it_is_told(project: dict[str, Any], tmp_path: Path) -> None:
    """The image makes a property of each variable; so do we, for a broker of the same version here."""
    service = project["services"]["kafka"]
    assert service["image"].endswith(f":{kafka.VERSION}")
    port, controller = free_port(), free_port()
    here = {":9092": f":{port}", ":9093": f":{controller}", "//kafka:": "//127.0.0.1:", "localhost": "127.0.0.1"}
    given = service["environment"].items()
    told = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in given}
    told |= {"log.dirs": str(tmp_path / "data")}
    text = "".join(f"{name}={value}\n" for name, value in told.items() if name != "heap.opts")
    for there, instead in here.items():
        text = text.replace(there, instead)
    file = tmp_path / "server.properties"
    file.write_text(text)

    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka.jars()}/*"]
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(file)]
    subprocess.run(storage, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else is to happen meanwhile
    broker = ServerProcess([*java, "kafka.Kafka", str(file)], log=tmp_path / "log")
    broker.start()
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
    try:
        await until(lambda: broker.check() or listens(port), within=60)
        await client.bootstrap()
        assert [(each.host, each.port) for each in client.cluster.brokers()] == [("127.0.0.1", port)]
    finally:
        await client.close()
        broker.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
