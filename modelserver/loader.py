"""Find the user's `InferenceService` in the model's folder, check its contract, and make the one instance.

The contract is TDInsight's: `__init__(self, model_path)` and `process_request(self, request)`; ours adds an optional
`process_batch(self, requests)`.  Whatever is wrong becomes a `ModelLoadFailed` that says what, where and what to do.
"""

import ast
import importlib.util
import inspect
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Protocol

from modelserver.termination import ModelLoadFailed

CLASS = "InferenceService"
MODULE = "inference_service.py"
PARAMETERS = {"__init__": "model_path", "process_request": "request", "process_batch": "requests"}
"""The methods of the contract and the one argument of each."""


class Service(Protocol):
    """What an InferenceService can do; `process_batch` is looked up where it is used."""

    def process_request(self, request: dict[str, Any]) -> Any:
        """The answer to one request."""


def load(folder: Path) -> Service:
    """An instance of the InferenceService in `folder`, made with the path of `folder`."""
    source = find(folder.resolve())
    sys.path.insert(0, str(source.parent))
    cls = _class_of(_import(source), source)
    for method in PARAMETERS:
        _check(cls, method)
    try:
        service: Service = cls(str(source.parent))
    except BaseException as error:
        raise ModelLoadFailed(
            f"{CLASS}.__init__ raised {_describe(error)}",
            advice=f"Try it where the model was made: {CLASS}(folder) with the uploaded folder. "
            "The traceback is in the replica's log.",
        ) from error
    return service


def find(folder: Path) -> Path:
    """The file that defines the class: `inference_service.py`, else the only top-level *.py that does."""
    if not folder.is_dir():
        raise ModelLoadFailed(
            f"the model path {folder} is not a folder", advice="Give the folder that holds the model and its class."
        )
    if (usual := folder / MODULE).is_file():
        return usual
    unreadable: list[str] = []
    found: list[Path] = []
    for path in sorted(folder.glob("*.py")):
        try:
            body = ast.parse(path.read_bytes()).body
        except (SyntaxError, ValueError, RecursionError) as error:
            unreadable.append(f"{path.name} ({error})")
            continue
        if any(isinstance(node, ast.ClassDef) and node.name == CLASS for node in body):
            found.append(path)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ModelLoadFailed(
            f"several files define {CLASS}: {names}", advice=f"Keep one, or call the one that counts {MODULE}."
        )
    holds = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    broken = f"; not readable as Python: {'; '.join(unreadable)}" if unreadable else ""
    raise ModelLoadFailed(
        f"no file in the model's folder defines {CLASS} (it holds: {holds}){broken}",
        advice=f"Put a {MODULE} with a class {CLASS} beside the model, at the top of the uploaded folder.",
    )


def _import(source: Path) -> ModuleType:
    """Import `source` under its own name, so that what it pickled finds it again."""
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ModelLoadFailed(
            f"importing {source.name} failed: there is no module {error.name!r} here",
            advice="Use an image or environment that has it, or put the module into the model's folder.",
        ) from error
    except BaseException as error:
        raise ModelLoadFailed(
            f"importing {source.name} failed with {_describe(error)}",
            advice="Correct the file and register it as a new version. The traceback is in the replica's log.",
        ) from error
    return module


def _class_of(module: ModuleType, source: Path) -> type[Any]:
    cls = getattr(module, CLASS, None)
    if cls is None:
        raise ModelLoadFailed(f"{source.name} defines no {CLASS}", advice=f"The class must be called {CLASS}.")
    if not isinstance(cls, type):
        raise ModelLoadFailed(
            f"{CLASS} in {source.name} is not a class but {type(cls).__name__}",
            advice=f"Define `class {CLASS}:` with __init__(self, model_path) and process_request(self, request).",
        )
    return cls


def _check(cls: type[Any], method: str) -> None:
    """That `cls.method` exists (process_batch need not), is no coroutine and can be called with one argument."""
    wanted = f"def {method}(self, {PARAMETERS[method]})"
    function = inspect.getattr_static(cls, method, None)
    if function is None and method == "process_batch":
        return
    if function is None or function is object.__init__:
        raise ModelLoadFailed(f"{CLASS} has no method {method}", advice=f"Define `{wanted}`.")
    if not callable(getattr(cls, method)):
        raise ModelLoadFailed(f"{CLASS}.{method} is not a method", advice=f"Define `{wanted}`.")
    if inspect.iscoroutinefunction(getattr(cls, method)):
        raise ModelLoadFailed(
            f"{CLASS}.{method} is a coroutine (async def)",
            advice=f"Write a plain `{wanted}`: it runs in a worker thread and may block.",
        )
    try:
        signature = inspect.signature(getattr(cls, method))
        # A plain function on a class takes self as well; static and class methods do not.
        signature.bind(*[None] * (2 if isinstance(function, FunctionType) or method == "__init__" else 1))
    except TypeError:
        raise ModelLoadFailed(
            f"{CLASS}.{method}{signature} cannot be called with one argument",
            advice=f"Its signature must be `{wanted}`.",
        ) from None
    except ValueError:
        return  # built by C code without a signature: the call itself will tell


def _describe(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
