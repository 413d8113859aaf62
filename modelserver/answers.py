"""The one shape of every answer: `{"message": …, "code": …, "data": …}`, as TDInsight defined it.  Pure functions.

`code` is 0 for success and otherwise the HTTP status, so that a client which only sees the body knows it, too.
"""

from typing import Any, NamedTuple

import orjson

from modelserver.termination import printable

DEPTH_LIMIT = 200
"""Levels of nesting that an answer can always have (orjson writes up to 254 and reads up to 1024)."""


class Answer(NamedTuple):
    """Status, body and, seldom, more headers."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class NotJson(Exception):
    """The model's result cannot be written as JSON."""


def success(data: Any) -> Answer:
    """The answer that carries `data`; raises NotJson."""
    document = {"message": "SUCCESS", "code": 0, "data": data}
    try:
        return Answer(200, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:
        pass
    # Slower, for what is rare: keys that are not text, arrays that are not contiguous or hold objects.
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        return Answer(200, orjson.dumps(document, default=_plain, option=options))
    except TypeError as error:
        raise NotJson(str(error.__cause__ or error)) from error


def failure(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    """The answer that says what happened and what to do."""
    document = {"message": printable(message), "code": status, "data": None}
    return Answer(status, orjson.dumps(document), headers)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, and whatever imitates them
        return value.tolist()
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def too_deep(value: Any) -> bool:
    """Whether `value`, parsed JSON, is nested deeper than DEPTH_LIMIT."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True
