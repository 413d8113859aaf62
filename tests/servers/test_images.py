"""That our Dockerfiles build, and what they build runs as pods that may write nowhere but to /tmp and are not root."""

import asyncio
import contextlib
import json
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from deploy.demo.journey import EXAMPLES
from deploy.embedded.postgres import Postgres
from tests.servers import images
from tests.servers.node import Node
from tests.servers.pods import Pods, container
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("node")]


@pytest.fixture
def pods(real_node: Node) -> Iterator[Pods]:
    found = Pods(real_node.plane, f"test-{uuid4().hex[:8]}")
    yield found
    found.remove()


@pytest.fixture
async def database(postgres: Postgres, real_node: Node) -> AsyncIterator[str]:
    """The URL of an empty database, as pods reach it: PostgreSQL itself listens on loopback only."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", postgres.port)
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name}")
    async with await asyncio.start_server(relay, real_node.host_address, 0) as server:
        host, port = server.sockets[0].getsockname()
        yield postgres.url_of(name).replace(f"127.0.0.1:{postgres.port}", f"{host}:{port}")
        server.close()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


async def test_the_model_server_serves_a_model(real_node: Node, pods: Pods, tmp_path: Path) -> None:
    real_node.load(images.MODEL_SERVER)
    train = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / "breast_cancer" / "train.py", "--variant", "1", "--out", tmp_path
    )
    assert await train.wait() == 0
    files = {file.name: b64encode(file.read_bytes()).decode() for file in (tmp_path / "v1" / "model").iterdir()}
    made = {"metadata": {"name": "model"}, "binaryData": files}
    real_node.plane.admin.call("POST", pods.path("configmaps"), made)
    model = {"name": "model", "mountPath": "/model", "readOnly": True}
    arguments = ("modelserver", "--model-path", "/model", "--name", "churn", "--version", "1")
    main = container(images.MODEL_SERVER.reference, *arguments, mounts=[model])

    pods.start("churn", main, volumes=[{"name": "model", "configMap": {"name": "model"}}])

    address = await pods.address("churn")
    samples = json.loads((tmp_path / "v1" / "samples.json").read_text())
    body = {"type": "dense", "feature_num": "30", "data": {"insts": samples["rows"]}}
    async with client(f"http://{address}:8080") as replica:
        answer = await replica.post("/predict/churn/1", json=body)
    assert answer.json()["data"]["insts"] == pytest.approx(samples["expected"])


async def test_the_whole_platform_runs_from_its_images(real_node: Node, pods: Pods, database: str) -> None:
    for image in (images.SERVICES, images.LOCAL, images.ENVOY):
        real_node.load(image)
    services = images.SERVICES.reference
    env = {"MOORAGE_DATABASE_URL": database, "MOORAGE_SECRET_KEY": b64encode(bytes(32)).decode()}

    pods.start("migrations", container(services, "migrations", "up", env=env, ready=""), restartPolicy="Never")
    assert (await pods.ended("migrations"))["exitCode"] == 0, pods.log("migrations")
    gateway = env | {"MOORAGE_SNAPSHOT_PATH": "/tmp/snapshot.db"}
    create_admin = container(services, "services.gateway", "create-admin", env=gateway, ready="")
    pods.start("create-admin", create_admin, restartPolicy="Never")
    registry, deployer = env | {"MOORAGE_BLOB_FOLDER": "/tmp/blobs"}, env | {"MOORAGE_LOCAL_FOLDER": "/tmp/replicas"}
    pods.start("registry", container(services, "services.registry", env=registry))
    pods.start("deployer", container(images.LOCAL.reference, "services.deployer", env=deployer))
    behind = {name: await pods.address(name) for name in ("registry", "deployer")}
    pods.start("front", *front(env, behind))

    address = await pods.address("front")
    assert (await pods.ended("create-admin"))["exitCode"] == 0
    (password,) = (line for line in pods.log("create-admin").splitlines() if " " not in line)
    async with client(f"http://{address}:8080/api/v1") as api:
        await until(partial(answers, api, 401), within=20)  # once Envoy has its routes
        await sign_in(api, password)
        for path in ("/models", "/deployments", "/users", "/metrics/summary"):  # one of each service
            answer = await api.get(path)
            assert answer.status_code == 200, answer.text
    async with client(f"http://{address}:9901") as admin:
        assert (await admin.get("/stats", params={"filter": "^moorage"})).status_code == 200
        assert (await admin.get("/config_dump")).status_code == 403
        assert (await admin.post("/quitquitquit")).status_code == 403


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=10)


async def answers(api: httpx.AsyncClient, status: int) -> bool:
    return (await api.get("/models")).status_code == status


async def sign_in(api: httpx.AsyncClient, password: str) -> None:
    form = {"grant_type": "password", "username": "admin", "password": password}
    answer = (await api.post("/auth/token", data=form)).raise_for_status()
    api.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def front(env: dict[str, str], behind: dict[str, str]) -> list[dict[str, Any]]:
    """Envoy, and what shares its machine: the gateway with the file of its snapshot, who serves that, the metrics."""
    services, snapshot = images.SERVICES.reference, {"MOORAGE_SNAPSHOT_PATH": "/tmp/snapshot.db"}
    addresses = {"gateway": "127.0.0.1:8081", "metrics": "127.0.0.1:8082"}
    addresses |= {name: f"{address}:8080" for name, address in behind.items()}
    options = ["--admin=0.0.0.0:9901", "--xds=127.0.0.1:18000", "--snapshot=127.0.0.1:18001"]
    options += [f"--{name}={address}" for name, address in addresses.items()]
    gateway, metrics = (env | {"MOORAGE_PORT": port} for port in ("8081", "8082"))
    beside = snapshot | {"MOORAGE_SNAPSHOT_PORT": "18001", "MOORAGE_XDS_ADDRESS": "127.0.0.1:18000"}
    return [
        container(images.ENVOY.reference, *options, name="envoy", ready="/ready", port=9901),
        container(services, "services.gateway", name="gateway", env=gateway | snapshot, port=8081),
        container(services, "services.gateway.snapshot", name="snapshot", env=beside, ready=""),
        container(services, "services.metrics", name="metrics", env=metrics, port=8082),
    ]
