"""The model server against its floor: a bare ASGI app on uvicorn with orjson that calls the same model, in line.

    python -m bench.modelserver [--rounds 7] [--seconds 2] [--connections 16] [--json FILE]

One core for the server, the other for the load generator (raw sockets on uvloop, in a process of its own).  Floor and
server take turns in every round, so that whatever else the machine does hits both.  Three models:
- example: examples/breast_cancer as it is, with process_batch
- single:  the same without process_batch
- light:   a logistic regression in numpy, where there is almost nothing but the server to measure
CPU time per request is compared as well ("cpu"): on a busy machine the scheduler gives two threads more of the core
than one, and then only that ratio is fair.
The generator's own ceiling is measured first, against a server that only echoes a fixed answer.
"""

import argparse
import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "breast_cancer"
MYSELF = ("-m", "bench.modelserver")
SERVER_CORE, CLIENT_CORE = 0, 1
WARM_UP_SECONDS = 0.5
FOREIGN_LIMIT = 0.05
"""Share of the server's core that others may use in a round; with more the round is measured again."""
PATIENCE = 3
"""How many times as many rounds to try, until enough were quiet."""
HEADER = "model    rows  floor/s server/s  ratio  (worst…best)    cpu others   p50/p99 ms floor, server"

SINGLE = """
import importlib.util, pathlib
spec = importlib.util.spec_from_file_location("example", pathlib.Path(__file__).with_name("example.py"))
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

class InferenceService:
    def __init__(self, model_path):
        self.process_request = example.InferenceService(model_path).process_request
    def process_request(self, request):
        raise AssertionError("replaced by the instance's own")
"""

LIGHT = """
import numpy as np

class InferenceService:
    def __init__(self, model_path):
        self.weights = np.random.default_rng(7).normal(size=30) / 1000

    def process_request(self, request):
        rows = np.asarray(request["data"]["insts"], dtype=float)
        return {"insts": 1 / (1 + np.exp(-(rows @ self.weights)))}
"""


class Server(NamedTuple):
    """A server process."""

    port: int
    pid: int


class Sample(NamedTuple):
    """One measurement of one server."""

    rate: float
    p50: float
    p99: float
    cpu: float
    """Microseconds of CPU for one answer."""
    foreign: float
    """Share of the core that was used by others meanwhile."""


# -- the floor ---------------------------------------------------------------------------------------------------------


def floor(folder: Path, port: int) -> None:
    """Serve the model of `folder` with nothing around it."""
    import orjson
    import uvicorn

    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("inference_service", folder / "inference_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    service = module.InferenceService(str(folder))
    Messages = Callable[[], Awaitable[MutableMapping[str, Any]]]  # noqa: N806 - a type

    async def app(scope: MutableMapping[str, Any], receive: Messages, send: Callable[..., Awaitable[None]]) -> None:
        body = b""
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        data = service.process_request(orjson.loads(body)) if body else None
        answer = orjson.dumps({"message": "SUCCESS", "code": 0, "data": data}, option=orjson.OPT_SERIALIZE_NUMPY)
        length = str(len(answer)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
    )


# -- the load generator ------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, and again."""

    def __init__(self, request: bytes, answers: list[float]) -> None:
        self._request = request
        self._answers = answers
        self._buffer = b""
        self._need = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._need:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            assert head.startswith(b"http/1.1 200"), self._buffer
            start = head.index(b"content-length: ") + 16
            self._need = end + 4 + int(head[start:].split(b"\r", 1)[0])
        if len(self._buffer) >= self._need:
            self._buffer, self._need = b"", 0
            self._answers.append(time.perf_counter() - self._sent)
            self._send()


def client(port: int, connections: int, seconds: float, body: Path) -> None:
    """Load the server and print requests per second and latencies in ms as JSON."""
    import uvloop

    content = body.read_bytes()
    head = f"POST /predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    request = head.encode() + b"\r\n\r\n" + content

    async def run() -> list[float]:
        answers: list[float] = []
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(request, answers), "127.0.0.1", port)
        await asyncio.sleep(WARM_UP_SECONDS)
        warm_up = len(answers)
        answers.clear()
        started = time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - started
        latencies = sorted(answers)
        return [
            len(latencies) / elapsed,
            latencies[len(latencies) // 2] * 1000,
            latencies[int(len(latencies) * 0.99)] * 1000,
            warm_up + len(latencies),
        ]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run())))
        sys.stdout.flush()
        os._exit(0)  # the connections are still writing


# -- the run -----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(arguments: list[str], port: int) -> Iterator[Server]:
    """A server process on its core, once it is ready."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),  # noqa: PLW1509  # no threads here
    )
    try:
        deadline = time.monotonic() + 60
        while not ready(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{arguments} did not become ready")
            time.sleep(0.05)
        yield Server(port=port, pid=process.pid)
    finally:
        process.terminate()
        process.wait()


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def measure(server: Server, body: Path, options: argparse.Namespace) -> Sample:
    command = [sys.executable, *MYSELF, "--role", "client", "--port", str(server.port), "--body", str(body)]
    command += ["--connections", str(options.connections), "--seconds", str(options.seconds)]
    started, core_before, own_before = time.monotonic(), core_seconds(), process_seconds(server.pid)
    answer = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),  # no threads here
    )
    own = process_seconds(server.pid) - own_before
    foreign = (core_seconds() - core_before - own) / (time.monotonic() - started)
    rate, p50, p99, total = json.loads(answer.stdout)
    return Sample(rate=rate, p50=p50, p99=p99, cpu=own / total * 1e6, foreign=foreign)


def core_seconds() -> float:
    """Busy time of the server's core, whoever used it."""
    fields = next(
        line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{SERVER_CORE} ")
    )
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
    busy = user + nice + system + irq + softirq
    return busy / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """CPU time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prepare(folder: Path) -> dict[str, Path]:
    """The models' folders and the request bodies."""
    subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py"), "--out", str(folder), "--variant", "2"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    example = folder / "v2" / "model"
    single, light = folder / "single", folder / "light"
    for other, source in ((single, SINGLE), (light, LIGHT)):
        other.mkdir()
        (other / "inference_service.py").write_text(source)
    (single / "example.py").write_bytes((example / "inference_service.py").read_bytes())
    (single / "model.joblib").write_bytes((example / "model.joblib").read_bytes())
    rows = json.loads((folder / "v2" / "samples.json").read_text())["rows"]
    for count in (1, 32):
        libsvm = ["0 " + " ".join(f"{i}:{v!r}" for i, v in enumerate(row, 1)) for row in rows[:count]]
        for name, kind, insts in (("libsvm", "libsvm", libsvm), ("dense", "dense", rows[:count])):
            document = {"type": kind, "feature_num": "30", "data": {"insts": insts}}
            (folder / f"{name}-{count}.json").write_text(json.dumps(document))
    return {"example": example, "single": single, "light": light}


def run(options: argparse.Namespace) -> None:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = prepare(folder)
        ceiling = ceiling_of_client(folder, options)
        print(f"load generator alone: {ceiling:,.0f} requests/s\n")
        print(HEADER)
        for name, model in models.items():
            ports = free_port(), free_port()
            floor_command = [*MYSELF, "--role", "floor", "--port", str(ports[0]), "--folder", str(model)]
            server_command = ["-m", "modelserver", "--model-path", str(model), "--name", "bench", "--version", "1"]
            server_command += ["--port", str(ports[1]), "--threads", "1"]
            with serving(floor_command, ports[0]) as bare, serving(server_command, ports[1]) as server:
                for count in (1, 32):
                    body = folder / f"{'dense' if name == 'light' else 'libsvm'}-{count}.json"
                    rounds = take_turns((bare, server), body, options)
                    results.append(summary(name, count, rounds))
                    print(line(results[-1]))
                    if max(results[-1]["floor"], results[-1]["server"]) > 0.8 * ceiling:
                        print("         (the load generator was the bottleneck: this line says little)")
    if options.json:
        document = {"load_generator": ceiling, "connections": options.connections, "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def take_turns(servers: tuple[Server, Server], body: Path, options: argparse.Namespace) -> list[list[Sample]]:
    """Rounds of (floor, server) in which the core was theirs; of those that were not, the least disturbed."""
    rounds: list[list[Sample]] = []
    for _ in range(options.rounds * PATIENCE):
        rounds.append([measure(server, body, options) for server in servers])
        quiet = [both for both in rounds if max(sample.foreign for sample in both) <= FOREIGN_LIMIT]
        if len(quiet) == options.rounds:
            return quiet
    return sorted(rounds, key=lambda both: max(sample.foreign for sample in both))[: options.rounds]


def ceiling_of_client(folder: Path, options: argparse.Namespace) -> float:
    port = free_port()
    with serving([*MYSELF, "--role", "echo", "--port", str(port)], port) as echo_server:
        return measure(echo_server, folder / "libsvm-1.json", options).rate


def echo(port: int) -> None:
    """Answers whatever comes in with one fixed answer, without looking."""
    import uvloop

    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.WriteTransport, transport)

        def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
            self.transport.write(answer)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def summary(name: str, rows: int, rounds: list[list[Sample]]) -> dict[str, Any]:
    ratios = sorted(server.rate / bare.rate for bare, server in rounds)

    def median(who: int, what: str) -> float:
        return float(statistics.median(getattr(both[who], what) for both in rounds))

    return {
        "model": name,
        "rows": rows,
        "floor": median(0, "rate"),
        "server": median(1, "rate"),
        "ratio": statistics.median(ratios),
        "ratio_worst": ratios[0],
        "ratio_best": ratios[-1],
        "cpu_ratio": statistics.median(bare.cpu / server.cpu for bare, server in rounds),
        "floor_cpu_us": median(0, "cpu"),
        "server_cpu_us": median(1, "cpu"),
        "floor_ms": [median(0, "p50"), median(0, "p99")],
        "server_ms": [median(1, "p50"), median(1, "p99")],
        "foreign": max(sample.foreign for both in rounds for sample in both),
    }


def line(result: dict[str, Any]) -> str:
    floor_p50, floor_p99 = result["floor_ms"]
    server_p50, server_p99 = result["server_ms"]
    return (
        f"{result['model']:8} {result['rows']:>4} {result['floor']:>8,.0f} {result['server']:>8,.0f} "
        f"{result['ratio']:>6.2f}  ({result['ratio_worst']:.2f}…{result['ratio_best']:.2f}) "
        f"{result['cpu_ratio']:>6.2f} {result['foreign']:>6.0%}   "
        f"{floor_p50:.2f}/{floor_p99:.2f}, {server_p50:.2f}/{server_p99:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", choices=("run", "floor", "client", "echo"), default="run", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--body", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "floor":
        floor(options.folder, options.port)
    elif options.role == "client":
        client(options.port, options.connections, options.seconds, options.body)
    elif options.role == "echo":
        echo(options.port)
    else:
        run(options)


if __name__ == "__main__":
    main()
