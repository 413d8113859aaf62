"""Every way in which a model can be broken: its exit code, its termination message, and what the log holds."""

from pathlib import Path

import pytest

from .conftest import ROOT, Serve, until

METHODS = "def __init__(self, model_path): pass\n    def process_request(self, request): return request\n    "
GOOD = f"class InferenceService:\n    {METHODS}"
USUAL = "inference_service.py"

BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "nothing there": (
        {"model.bin": ""},
        "no file in the model's folder defines InferenceService (it holds: model.bin)",
    ),
    "unreadable": ({"a.py": "class InferenceService(:"}, "not readable as Python: a.py"),
    "several": ({"a.py": GOOD, "b.py": GOOD}, "several files define InferenceService: a.py, b.py"),
    "no class": ({USUAL: "x = 1"}, "inference_service.py defines no InferenceService"),
    "no real class": ({USUAL: "def InferenceService(path): pass"}, "not a class but function"),
    "syntax": ({USUAL: "class InferenceService(:"}, "importing inference_service.py failed with SyntaxError"),
    "import": ({USUAL: "import no_such_module"}, "there is no module 'no_such_module' here"),
    "raises": ({USUAL: "1 / 0"}, "failed with ZeroDivisionError: division by zero"),
    "exits": ({USUAL: "import sys; sys.exit()"}, "failed with SystemExit"),
    "no init": (
        {USUAL: "class InferenceService:\n    def process_request(self, request): pass"},
        "InferenceService has no method __init__",
    ),
    "init without path": (
        {USUAL: "class InferenceService:\n    def __init__(self): pass\n    def process_request(self, r): pass"},
        "InferenceService.__init__(self) cannot be called with one argument",
    ),
    "no process_request": (
        {USUAL: "class InferenceService:\n    def __init__(self, model_path): pass"},
        "InferenceService has no method process_request",
    ),
    "process_request of two": (
        {USUAL: "class InferenceService:\n    def __init__(self, p): pass\n    def process_request(self, a, b): pass"},
        "InferenceService.process_request(self, a, b) cannot be called with one argument",
    ),
    "process_request no method": (
        {USUAL: "class InferenceService:\n    def __init__(self, p): pass\n    process_request = 3"},
        "InferenceService.process_request is not a method",
    ),
    "coroutine": (
        {USUAL: GOOD.replace("def process_request", "async def process_request")},
        "InferenceService.process_request is a coroutine",
    ),
    "process_batch of none": (
        {USUAL: GOOD + "def process_batch(self): pass"},
        "InferenceService.process_batch(self) cannot be called with one argument",
    ),
    "init raises": (
        {USUAL: GOOD.replace("pass", "raise OSError('no weights')")},
        "InferenceService.__init__ raised OSError: no weights",
    ),
}


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_ends_with_its_reason(serve: Serve, tmp_path: Path, case: str) -> None:
    files, message = BROKEN[case]
    replica = serve(fill(tmp_path, files), listening=False)
    assert replica.ended() == 65
    assert replica.termination["cause"] == "model_load"
    assert message in replica.termination["message"]
    assert replica.termination["advice"]
    assert message in replica.log


def test_the_broken_example_fails_in_its_constructor_and_says_what_it_printed(serve: Serve) -> None:
    replica = serve(ROOT / "examples" / "broken", listening=False)
    assert replica.ended() == 65
    assert "FileNotFoundError" in replica.termination["message"]
    assert "loading the weights" in replica.log
    assert "Traceback" in replica.log


GOOD_FOLDERS = {
    "usual name": {USUAL: GOOD, "other.py": GOOD},
    "the only file that defines it": {"service.py": GOOD, "helper.py": "x = 1", "broken.py": "(", "m.bin": ""},
    "imported from beside it": {USUAL: "from mine import InferenceService", "mine.py": GOOD},
    "static methods, defaults": {
        USUAL: "class InferenceService:\n    def __init__(self, path='', more=None): pass\n"
        "    @staticmethod\n    def process_request(request, option=1): return request\n"
    },
}


@pytest.mark.parametrize("case", GOOD_FOLDERS)
def test_where_the_class_may_be(serve: Serve, tmp_path: Path, case: str) -> None:
    replica = serve(fill(tmp_path, GOOD_FOLDERS[case]))
    assert replica.predict({"a": 1}).json()["data"] == {"a": 1}


def test_a_model_path_that_is_no_folder(serve: Serve, tmp_path: Path) -> None:
    replica = serve(tmp_path / "absent", listening=False)
    assert replica.ended() == 65
    assert "is not a folder" in replica.termination["message"]


WAITING = """
import os, time
class InferenceService:
    def __init__(self, model_path):
        while not os.path.exists(os.path.join(model_path, "go")):
            time.sleep(0.01)
    def process_request(self, request): return request
"""


def test_probes_are_answered_while_the_model_loads(serve: Serve, tmp_path: Path) -> None:
    fill(tmp_path, {USUAL: WAITING})
    replica = serve(tmp_path, ready=False)
    assert replica.client.get("/healthz").status_code == 200
    assert replica.client.get("/readyz").status_code == 503
    refused = replica.predict({})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "still loading" in refused.json()["message"]
    (tmp_path / "go").touch()
    until(lambda: replica.client.get("/readyz").status_code == 200, what="it is ready")
    assert replica.predict({}).status_code == 200


def test_sigterm_while_loading_ends_at_once(serve: Serve, tmp_path: Path) -> None:
    fill(tmp_path, {USUAL: WAITING})
    replica = serve(tmp_path, ready=False)
    replica.terminate()
    assert replica.ended() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": "x"}, "--port"),
        ({"model_name": "a/b"}, "slash"),
        ({"model_name": ""}, "--name"),
        ({"model_version": "v1"}, "not a whole number"),
        ({"threads": "0"}, "at least 1"),
        ({"drain_seconds": "nan"}, "from 0 up"),
    ],
)
def test_wrong_settings_end_with_64(serve: Serve, settings: dict[str, str], message: str) -> None:
    replica = serve(GOOD, listening=False, **settings)
    assert replica.ended() == 64
    assert replica.termination["cause"] == "usage"
    assert message in replica.termination["message"]


def test_a_taken_port_ends_with_71(serve: Serve) -> None:
    port = serve(GOOD).client.base_url.port
    replica = serve(GOOD, listening=False, port=port)
    assert replica.ended() == 71
    assert f"cannot listen on 127.0.0.1:{port}" in replica.termination["message"]
