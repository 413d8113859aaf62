"""What a JSON document that people hand us may hold, so that PostgreSQL keeps it and everybody can read it. Pure."""

from collections.abc import Iterable
from math import isfinite

_DEEPEST = 8
_MOST_VALUES = 5_000
_LONGEST_TEXT = 10_000
_LARGEST_INTEGER = 2**63


def check_document(value: object) -> None:
    """Raises ValueError with what is wrong, unless depth, size, numbers and texts are within bounds."""
    level: list[object] = [value]
    seen = 0
    for _ in range(_DEEPEST + 1):
        seen += len(level)
        if seen > _MOST_VALUES:
            raise ValueError(f"holds more than {_MOST_VALUES} values")
        below: list[object] = []
        for each in level:
            below.extend(_inside(each))
        if not below:
            return
        level = below
    raise ValueError(f"is nested deeper than {_DEEPEST} levels")


def _inside(value: object) -> Iterable[object]:
    match value:
        case None | bool():
            return ()
        case str():
            _check_text(value)
            return ()
        case int():
            if abs(value) >= _LARGEST_INTEGER:
                raise ValueError("holds a whole number of more than 64 bits")
            return ()
        case float():
            if not isfinite(value):
                raise ValueError("holds a number that is not finite; use null or text")
            return ()
        case dict():
            for key in value:
                if not isinstance(key, str) or not key:
                    raise ValueError("has an empty key")
                _check_text(key)
            return value.values()
        case list():
            return value
    raise ValueError("is no JSON")


def _check_text(text: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"holds a text of more than {_LONGEST_TEXT} characters")
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None
