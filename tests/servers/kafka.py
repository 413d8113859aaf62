"""Apache Kafka: one broker in KRaft mode, its jars from Maven. Needs Java 17 and Maven.

python -m tests.servers.kafka    fetch it, start it, say where it listens, until interrupted
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from tests.servers.cache import made_once, missing
from tests.support.ports import free_port

VERSION = "4.1.0"

_PROJECT = f"""
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>moorage</groupId> <artifactId>kafka-for-tests</artifactId> <version>1</version> <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""

_JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]


def jars() -> Path:
    """The folder of the jars; fetched when they are not in the cache. Skips where that is not possible."""
    if shutil.which("java") is None:
        missing("Kafka needs Java, which is not installed")

    def fetch(into: Path) -> None:
        if shutil.which("mvn") is None:
            missing("Kafka is fetched by Maven, which is not installed")
        (into / "pom.xml").write_text(_PROJECT)
        argv = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={into}"]
        subprocess.run(argv, cwd=into, check=True, stdout=sys.stderr)

    return made_once(f"kafka-{VERSION}", fetch)


class Broker:
    """A broker of a test run's own, to be killed, stopped and started again. `extra` are properties of its own."""

    def __init__(self, folder: Path, *, extra: Mapping[str, str] = {}) -> None:
        self.port = free_port()
        self._folder = folder
        self._classpath = f"{jars()}/*"
        self._properties = folder / "server.properties"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        controller = free_port()
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "500",
            "log.cleaner.enable": "false",
            **{name: value.format(port=self.port, controller=controller) for name, value in extra.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    def format(self, *users: str) -> None:
        """`users` are SCRAM credentials: `SCRAM-SHA-256=[name=ana,password=…]`."""
        credentials = [word for user in users for word in ("--add-scram", user)]
        argv = ["kafka.tools.StorageTool", "format", "-t", _uuid(), "-c", str(self._properties), *credentials]
        self._run(argv)

    async def start(self) -> None:
        """Return when it listens; do nothing if it runs."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("a") as output:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
                    [*_JAVA, self._classpath, "kafka.Kafka", str(self._properties)],
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                )
        deadline = time.monotonic() + 60
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._log.read_text()[-4000:])
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It listens and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self._folder)}

    def _run(self, argv: list[str]) -> None:
        done = subprocess.run([*_JAVA, self._classpath, *argv], capture_output=True, env=self._environment, check=False)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr).decode())

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _uuid() -> str:
    """As Kafka writes them: 16 bytes in base64."""
    return urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")


@contextlib.contextmanager
def running(*users: str, extra: Mapping[str, str] = {}) -> Iterator[Broker]:
    """A broker in a folder of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-kafka-") as folder:
        broker = Broker(Path(folder), extra=extra)
        broker.format(*users)
        try:
            asyncio.run(broker.start())
            yield broker
        finally:
            broker.kill()


if __name__ == "__main__":
    with running() as found, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"MOORAGE_BUS={found.url}\n")
        sys.stdout.flush()
        signal.pause()
