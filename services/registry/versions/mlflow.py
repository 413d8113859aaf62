"""What MLflow has written about a model or a run, read from its files. Pure, and without MLflow.

    MLmodel                 a model's folder: flavours, run, signature (YAML)
    meta.yaml               a run's folder: its id and name
      metrics/<key>         a line for each measurement: timestamp, value, step
      params/<key>          the value as text
      tags/<key>            of these, the note and the name
      artifacts/…/MLmodel   the model that the run has logged

Either may lie in the only folder at the top. Parameters stay the text that they are to MLflow; NaN and infinities,
which are no JSON, become null.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from services.registry.versions.curves import FEWEST, Point, downsample

__all__ = ["MOST_BYTES", "Imported", "is_wanted", "read"]

MOST_BYTES = 64 << 20
"""Of everything that is read."""

_MOST_CURVES = 100
_LARGEST = {"MLmodel": 1 << 20, "meta.yaml": 64 << 10, "metrics": 16 << 20, "params": 64 << 10, "tags": 64 << 10}
_TAGS = ("mlflow.note.content", "mlflow.runName")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_GENERIC = "python_function"
_DESCRIPTION = 10_000


@dataclass(frozen=True)
class Imported:
    """`framework` is the flavour; `parameters["mlflow"]` says where it comes from."""

    framework: str
    run: str | None
    description: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)


def is_wanted(path: PurePosixPath, size: int) -> bool:
    parts = _below_top(path)
    kind = "MLmodel" if parts[-1] == "MLmodel" else parts[0]
    if kind == "tags" and parts[1:] not in [(tag,) for tag in _TAGS]:
        return False
    return size <= _LARGEST.get(kind, -1)


def read(files: Mapping[PurePosixPath, bytes], *, most_points: int) -> Imported:
    """Raises ValueError with what is missing or broken."""
    known = {_below_top(path): content for path, content in files.items()}
    model = _yaml(known, next((path for path in sorted(known, key=len) if path[-1] == "MLmodel"), None))
    meta = _yaml(known, ("meta.yaml",) if ("meta.yaml",) in known else None)
    if not model and not meta:
        raise ValueError("has neither an MLmodel nor a run's meta.yaml at its top")
    flavors = model.get("flavors")
    named = sorted(flavors) if isinstance(flavors, dict) else []
    run = next((each for each in (model.get("run_id"), meta.get("run_id")) if _is_run(each)), None)
    history = {"/".join(path[1:]): _history(content) for path, content in known.items() if path[0] == "metrics"}
    measured = {key: points for key, points in history.items() if points}
    origin = {
        "run_id": run,
        "run_name": _text(known, "mlflow.runName") or meta.get("run_name"),
        "flavors": named,
        "mlflow_version": model.get("mlflow_version"),
        "signature": model.get("signature"),
    }
    return Imported(
        framework=next((flavor for flavor in named if flavor != _GENERIC), _GENERIC if named else "")[:63],
        run=run,
        description=_text(known, "mlflow.note.content")[:_DESCRIPTION],
        metrics={key: points[-1][1] for key, points in measured.items()},
        parameters={
            **{"/".join(path[1:]): _decoded(content) for path, content in known.items() if path[0] == "params"},
            "mlflow": {key: value for key, value in origin.items() if value},
        },
        curves=_curves(measured, most_points=most_points),
    )


def _below_top(path: PurePosixPath) -> tuple[str, ...]:
    """The path's parts without the folder that everything lies in, if this is one."""
    parts = path.parts or ("",)
    at_top = parts[0] in _LARGEST or parts[0] == "artifacts"
    return parts if at_top or len(parts) == 1 else parts[1:]


def _yaml(known: Mapping[tuple[str, ...], bytes], path: tuple[str, ...] | None) -> dict[str, Any]:
    """Every scalar as text: nothing is made of it but names."""
    if path is None:
        return {}
    name = "/".join(path)
    try:
        document = yaml.load(known[path], Loader=yaml.BaseLoader)  # noqa: S506 - this loader makes text and nothing else
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ValueError(f"has a {name} that is no YAML") from None
    if not isinstance(document, dict):
        raise ValueError(f"has a {name} that says nothing")
    return document


def _history(content: bytes) -> list[Point]:
    """By step, and by time within one: the last is the one that counts. Lines that are none are passed over."""
    found: list[tuple[float, float, float]] = []
    for line in content.splitlines():
        words = line.split()
        try:
            at, value, step = float(words[0]), float(words[1]), float(words[2]) if len(words) > 2 else 0.0
        except (ValueError, IndexError):
            continue
        if math.isfinite(at) and math.isfinite(step):
            found.append((step, at, value))
    found.sort(key=lambda each: each[:2])
    return [[step, value if math.isfinite(value) else None] for step, _, value in found]


def _curves(measured: Mapping[str, list[Point]], *, most_points: int) -> dict[str, list[Point]]:
    """What was measured more than once; all together within the limit. A curve's name holds no slash."""
    long = {key: points for key, points in sorted(measured.items()) if len(points) > 1}
    each = max(FEWEST, most_points // max(1, min(len(long), _MOST_CURVES)))
    named = [(key.replace("/", ".")[:100], points) for key, points in long.items()]
    return {name: downsample(points, each) for name, points in named[:_MOST_CURVES]}


def _is_run(value: object) -> bool:
    return isinstance(value, str) and _RUN.fullmatch(value) is not None


def _text(known: Mapping[tuple[str, ...], bytes], tag: str) -> str:
    return _decoded(known.get(("tags", tag), b""))


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace").replace("\x00", "").strip()
