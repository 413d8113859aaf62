"""Apache Kafka: one broker in KRaft mode, its jars from Maven. Needs Java 17, and Maven to fetch it.

    python -m tests.servers run kafka    fetch it, start it, say where it listens, until interrupted

It listens without protection, and with TLS and SASL (PLAIN, SCRAM) for the user `USER`.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tests.servers.cache import made_once, missing
from tests.servers.certificates import issue
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port

VERSION = "4.1.0"
USER, PASSWORD = "moorage", "mooring-line"

_PROJECT = f"""
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>moorage</groupId> <artifactId>kafka-for-tests</artifactId> <version>1</version> <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId> <artifactId>kafka_2.13</artifactId> <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def jars() -> Path:
    """The folder of the jars; fetched when they are not in the cache. Skips where that is not possible."""
    if shutil.which("java") is None:
        missing("Kafka needs Java, which is not installed")

    def fetch(into: Path) -> None:
        if shutil.which("mvn") is None:
            missing("Kafka is fetched by Maven, which is not installed")
        (into / "pom.xml").write_text(_PROJECT)
        argv = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={into}"]
        if subprocess.run(argv, cwd=into, check=False, stdout=sys.stderr).returncode:
            missing("Maven cannot fetch Kafka: see above")

    return made_once(f"kafka-{VERSION}", fetch)


class Broker:
    """A broker of a test run's own, to be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._jars = jars()
        self._folder = folder
        self._properties = folder / "server.properties"
        argv = [*_JAVA, f"{self._jars}/*", "kafka.Kafka", str(self._properties)]
        self._process = ServerProcess(argv, log=folder / "log", env={"LC_ALL": "C.UTF-8"})
        self._port, self._secure_port = free_port(), free_port()
        self.authority, certificate = issue(folder)
        self._configure(free_port(), certificate)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def secure_address(self) -> str:
        return f"127.0.0.1:{self._secure_port}"

    async def start(self) -> None:
        """Return when it listens; do nothing if it does."""
        self._process.start()
        deadline = time.monotonic() + 60
        while not self._listens():
            self._process.check()
            if time.monotonic() > deadline:
                raise TimeoutError(self._process.tail())
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """It listens and answers nothing, like a broker that the network has swallowed."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def _configure(self, controller: int, certificate: Path) -> None:
        login = "org.apache.kafka.common.security"
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": f"PLAIN://{self.address},SECURE://{self.secure_address},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": certificate,
            "sasl.enabled.mechanisms": ",".join(("PLAIN", *_SCRAM)),
            "listener.name.secure.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required "
            f'user_{USER}="{PASSWORD}";',
            **{
                f"listener.name.secure.{each.lower()}.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;"
                for each in _SCRAM
            },
            "log.dirs": self._folder / "data",
            "log.cleaner.enable": "false",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            # A killed broker may come back once its old registration is over: after 9 s by default.
            "broker.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 250,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        cluster = "M" + urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")[1:]  # an option if it began with a dash
        argv = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        for mechanism in _SCRAM:
            argv += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        argv = [*_JAVA, f"{self._jars}/*", *argv]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr).decode())

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@contextlib.contextmanager
def running() -> Iterator[Broker]:
    """A broker in a folder of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-kafka-") as folder:
        broker = Broker(Path(folder))
        try:
            asyncio.run(broker.start())
            yield broker
        finally:
            broker.kill()
