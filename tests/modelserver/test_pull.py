"""`python -m modelserver.pull`, run as a process against a real HTTP server that can be told to misbehave."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, until


class Store:
    """Serves one blob; `faults` are done to the first requests, one each."""

    def __init__(self) -> None:
        self.blob = b""
        self.faults: list[str] = []
        self.requests = 0
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.requests += 1
                fault = store.faults.pop(0) if store.faults else ""
                if fault == "drop":
                    self.close_connection = True
                    return
                self.send_response(int(fault) if fault.isdigit() else 200)
                self.send_header("content-length", str(len(store.blob)))
                self.end_headers()
                self.wfile.write(store.blob[: len(store.blob) // 2] if fault == "cut" else store.blob)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/artifact?signature=hush-hush"


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    thread = threading.Thread(target=store.server.serve_forever, args=(0.01,))
    thread.start()
    yield store
    store.server.shutdown()
    store.server.server_close()
    thread.join()


class Puller:
    """Runs pulls into one cache folder."""

    def __init__(self, home: Path) -> None:
        self.cache = home / "cache"
        self.termination_path = home / "termination.json"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, url: str, digest: str, *more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "modelserver.pull", "--url", url, "--digest", f"sha256:{digest}"]
        command += ["--into", str(self.cache), *more]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MOORAGE_TERMINATION_LOG": str(self.termination_path)}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.cache.parent
        )
        self.processes.append(process)
        return process

    def pull(self, url: str, digest: str, *more: str) -> Path:
        process = self.start(url, digest, *more)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert Path(output.strip()) == self.cache / digest
        return self.cache / digest

    def refused(self, url: str, digest: str, *more: str) -> str:
        process = self.start(url, digest, *more)
        _, errors = process.communicate(timeout=30)
        message = json.loads(self.termination_path.read_text())
        assert (process.returncode, message["cause"]) == (66, "model_download"), errors
        assert message["advice"]
        assert "hush-hush" not in errors + json.dumps(message)
        assert "Traceback" not in errors
        assert not self.cache.exists() or list(self.cache.iterdir()) == []
        return str(message["message"])


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[Puller]:
    puller = Puller(tmp_path)
    yield puller
    for process in puller.processes:
        with process:  # closes its pipes and waits for it
            process.kill()


def tar(*entries: tuple[str, bytes | str], mode: str = "w") -> bytes:
    """A tar of files (bytes) and other things (named)."""
    kinds = {
        "folder": tarfile.DIRTYPE,
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type = kinds[content]
                info.linkname = "/etc/passwd"
                archive.addfile(info)
    return buffer.getvalue()


def zipped(*entries: tuple[str, bytes], mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o040755 if name.endswith("/") else mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def digest_of(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FILES = (("model.bin", b"weights" * 1000), ("code/service.py", b"x = 1"))
INSIDE = tuple((f"top/{name}", content) for name, content in FILES)
NPZ = zipped(("a.npy", b"array"))

ARCHIVES: dict[str, tuple[bytes, dict[str, bytes]]] = {
    **{f"tar {kind or 'plain'}": (tar(*FILES, mode=f"w:{kind}"), dict(FILES)) for kind in ("", "gz", "bz2", "xz")},
    "zip": (zipped(*FILES), dict(FILES)),
    "one folder is the model's folder": (tar(("top", "folder"), *INSIDE), dict(FILES)),
    "one folder in a zip": (zipped(("top/", b""), *INSIDE), dict(FILES)),
    "dots and folders twice": (tar((".", "folder"), ("./a", "folder"), ("./a", "folder"), ("./a/b", b"1"), ("c", b"2")),
                               {"a/b": b"1", "c": b"2"}),
    "a tar that ends with a zip": (tar(("m.npz", NPZ), ("n", b"")), {"m.npz": NPZ, "n": b""}),
    "a single file": (b"\x80\x04 a pickle, say", {"model": b"\x80\x04 a pickle, say"}),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_what_is_unpacked(store: Store, puller: Puller, case: str) -> None:
    store.blob, content = ARCHIVES[case]
    assert content_of(puller.pull(store.url, digest_of(store.blob))) == content
    assert [path.name for path in puller.cache.iterdir()] == [digest_of(store.blob)]


def test_a_name_says_that_it_is_one_file_even_if_it_looks_like_an_archive(store: Store, puller: Puller) -> None:
    store.blob = NPZ
    assert content_of(puller.pull(store.url, digest_of(NPZ), "--name", "model.npz")) == {"model.npz": NPZ}


def test_a_file_url(puller: Puller, tmp_path: Path) -> None:
    (tmp_path / "model.tar").write_bytes(tar(*FILES))
    folder = puller.pull((tmp_path / "model.tar").as_uri(), digest_of(tar(*FILES)))
    assert content_of(folder) == dict(FILES)


REFUSED: dict[str, tuple[bytes, str]] = {
    "absolute": (tar(("/etc/cron", b"x")), "leads out"),
    "parent": (tar(("a/../../b", b"x")), "leads out"),
    "backslash": (zipped(("a\\..\\b", b"x")), "leads out"),
    "symlink": (tar(("a", "symlink")), "neither a file nor a folder"),
    "hardlink": (tar(("a", "hardlink")), "neither a file nor a folder"),
    "device": (tar(("a", "device")), "neither a file nor a folder"),
    "fifo": (tar(("a", "fifo")), "neither a file nor a folder"),
    "symlink in a zip": (zipped(("a", b"/etc/passwd"), mode=0o120777), "neither a file nor a folder"),
    "parent in a zip": (zipped(("../a", b"x")), "leads out"),
    "twice": (tar(("a", b"x"), ("./a", b"y")), "is there twice"),
    "file and folder": (tar(("a", b"x"), ("a", "folder")), "both a file and a folder"),
    "file as folder": (tar(("a", b"x"), ("a/b", b"y")), "is there twice"),
    "empty": (tar(("a", "folder")), "holds no file"),
    "bomb": (tar(("a", b"\0" * 3_000_000), mode="w:gz"), "unpacks to more than 2000000 bytes"),
    "bomb in a zip": (zipped(("a", b"\0" * 3_000_000)), "unpacks to more than 2000000 bytes"),
    "too many": (tar(*((f"f{n}", "folder") for n in range(51))), "more than 50 entries"),
    "cut": (tar(("a", os.urandom(200_000)), mode="w:gz")[:100_000], "is broken"),
    "cut zip": (zipped(*FILES)[:-30], "is broken"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(store: Store, puller: Puller, case: str) -> None:
    store.blob, message = REFUSED[case]
    found = puller.refused(store.url, digest_of(store.blob), "--bytes-limit", "2000000", "--entries-limit", "50")
    assert "was refused" in found
    assert message in found


def test_a_header_that_claims_gigabytes_is_refused(store: Store, puller: Puller) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    store.blob = tar(("a", b"x"))[:1024] + info.tobuf() + b"\0" * 1024
    assert "header of more than" in puller.refused(store.url, digest_of(store.blob))


def test_a_wrong_digest_leaves_nothing(store: Store, puller: Puller) -> None:
    store.blob = tar(*FILES)
    assert digest_of(store.blob) in puller.refused(store.url, "0" * 64)
    assert store.requests == 1


def test_faults_that_pass_are_retried(store: Store, puller: Puller) -> None:
    store.blob = tar(*FILES)
    store.faults = ["503", "drop", "cut"]
    assert content_of(puller.pull(store.url, digest_of(store.blob))) == dict(FILES)
    assert store.requests == 4


def test_faults_that_stay_are_not_retried_for_ever(store: Store, puller: Puller) -> None:
    store.faults = ["503"] * 10
    assert "failed 2 times, lastly: HTTP 503" in puller.refused(store.url, "0" * 64, "--attempts", "2")
    assert store.requests == 2


@pytest.mark.parametrize("status", ["403", "404", "410"])
def test_a_refusal_of_the_store_is_final(store: Store, puller: Puller, status: str) -> None:
    store.faults = [status]
    assert f"answered HTTP {status}" in puller.refused(store.url, "0" * 64)
    assert store.requests == 1


@pytest.mark.parametrize("url", ["ftp://host/x?hush-hush", "nonsense", "file:///no/such/file", "http://[/?hush-hush"])
def test_addresses_that_are_none(puller: Puller, url: str) -> None:
    puller.refused(url, "0" * 64)


def test_nobody_there(store: Store, puller: Puller) -> None:
    store.server.server_close()
    assert "failed 1 times" in puller.refused(store.url, "0" * 64, "--attempts", "1")


def test_the_second_pull_fetches_nothing(store: Store, puller: Puller) -> None:
    store.blob = tar(*FILES)
    for _ in range(2):
        puller.pull(store.url, digest_of(store.blob))
    assert store.requests == 1


def test_concurrent_pulls_of_one_digest_all_succeed(store: Store, puller: Puller) -> None:
    store.blob = tar(*FILES)
    processes = [puller.start(store.url, digest_of(store.blob)) for _ in range(6)]
    for process in processes:
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert content_of(Path(output.strip())) == dict(FILES)
    assert [path.name for path in puller.cache.iterdir()] == [digest_of(store.blob)]


@pytest.mark.parametrize("arguments", [("--name", "a/b"), ("--attempts", "0")])
def test_wrong_options_end_with_64(puller: Puller, arguments: tuple[str, ...]) -> None:
    process = puller.start("file:///x", "0" * 64, *arguments)
    process.communicate(timeout=30)
    assert process.returncode == 64


def test_sigterm_leaves_nothing(store: Store, puller: Puller) -> None:
    release = threading.Event()
    store.blob = b"x" * 100
    handler: Any = store.server.RequestHandlerClass  # a class of this store's own

    def slow(self: Any) -> None:
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b"x" * 10)
        self.wfile.flush()
        release.wait(30)

    handler.do_GET = slow
    process = puller.start(store.url, "0" * 64)
    until(lambda: list(puller.cache.glob(".pull-*/blob")), what="it downloads")
    process.terminate()
    process.communicate(timeout=30)
    release.set()
    assert list(puller.cache.iterdir()) == []
