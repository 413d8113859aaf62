"""A real S3 server over a folder (Versity's gateway), for what the registry keeps in object stores."""

import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import go
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port
from tests.support.waiting import until


@dataclass(frozen=True)
class S3:
    """`environment` is what clients read their credentials and the endpoint from. Each folder of `root` is a bucket."""

    environment: dict[str, str]
    root: Path
    process: ServerProcess


@asynccontextmanager
async def s3_server(folder: Path) -> AsyncIterator[S3]:
    program, port = go.S3.program("versitygw"), free_port()
    root = folder / "buckets"
    (root / "models").mkdir(parents=True)
    process = ServerProcess(
        [program, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", folder / "sidecar", root],
        log=folder / "s3.log",
        env={"ROOT_ACCESS_KEY": "moorage", "ROOT_SECRET_KEY": "a-secret-of-the-tests"},
    )
    (folder / "sidecar").mkdir()
    process.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "moorage",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        await until(lambda: _answers(environment["AWS_ENDPOINT_URL"], process), within=20)
        yield S3(environment, root, process)
    finally:
        process.kill()


def _answers(url: str, process: ServerProcess) -> bool:
    process.check()
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it wants a signature
    except OSError:
        return False
    return True
