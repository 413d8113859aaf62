"""What pydantic refuses, said in our own words: where in the request, and what is wrong there. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from shared.errors import FieldProblem
from shared.http.schemas import LABEL

__all__ = ["field_problems"]

_MOST = 50
"""A body of a hundred thousand unknown fields is answered like one of fifty."""

_SHAPES = {LABEL: "must be lower-case letters, digits and inner hyphens"}
_WORDS = {
    "extra_forbidden": "is not a known field",
    "missing": "is missing",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "tuple_type": "must be a JSON array",
    "list_type": "must be a JSON array",
}


def field_problems(errors: Sequence[Mapping[str, Any]], body: Any) -> list[FieldProblem]:
    """One for each place, whatever number of ways there were to read what stands there."""
    messages: dict[str, list[str]] = {}
    for error in islice(errors, _MOST):
        where, *path = error["loc"]
        if error["type"] == "json_invalid":
            return [FieldProblem("", f"is not valid JSON: {error['ctx']['error']} (at character {path[0]})")]
        pointer = "/".join(map(str, (where, *path)))
        if where == "body":
            pointer = "".join(_pointer(path, body, missing=error["type"] == "missing"))
        messages.setdefault(pointer, []).append(_message(error, of_key=path[-1:] == ["[key]"]))
    return [FieldProblem(pointer, ", or ".join(dict.fromkeys(said))) for pointer, said in messages.items()]


def _pointer(path: Sequence[str | int], body: Any, *, missing: bool) -> Iterator[str]:
    """Pydantic's path without the names of the types that it tried, which no body has."""
    for index, part in enumerate(path):
        fields = dict(enumerate(body)) if isinstance(body, list) else body
        if isinstance(fields, Mapping) and part in fields:
            body = fields[part]
        elif not (missing and index == len(path) - 1):
            continue
        yield f"/{str(part).replace('~', '~0').replace('/', '~1')}"


def _message(error: Mapping[str, Any], *, of_key: bool) -> str:
    said = _WORDS.get(error["type"]) or _SHAPES.get(error.get("ctx", {}).get("pattern"), str(error["msg"]))
    said = said.removeprefix("Value error, ")
    return f"the name: {said}" if of_key else said
