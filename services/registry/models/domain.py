"""Search words and metrics as one line. Pure."""

import re
from collections.abc import Iterator, Mapping

_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 10
_LONGEST_SUMMARY = 300


def tsquery(words: str) -> str:
    """What people type, as a PostgreSQL text query: every word, each as the beginning of one."""
    found = _WORD.findall(words.lower())[:_MOST_WORDS]
    return " & ".join(f"'{word}':*" for word in found)


def metrics_summary(metrics: object) -> str:
    """`key=value, …`; what is nested by its path; text as it is. Cut when it is long."""
    if isinstance(metrics, Mapping):
        line = ", ".join(f"{key}={value}" for key, value in _leaves(metrics, prefix=""))
    else:
        line = " ".join(str(metrics or "").split())
    return line if len(line) <= _LONGEST_SUMMARY else f"{line[: _LONGEST_SUMMARY - 1]}…"


def _leaves(value: object, *, prefix: str) -> Iterator[tuple[str, str]]:
    items: Iterator[tuple[str, object]] | None = None
    if isinstance(value, Mapping):
        items = ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list):
        items = ((str(index), inner) for index, inner in enumerate(value))
    if items is None:
        yield prefix, _shown(value)
        return
    for key, inner in items:
        yield from _leaves(inner, prefix=f"{prefix}.{key}" if prefix else key)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".6g")
    return "null" if value is None else str(value)
