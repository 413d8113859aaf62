"""What a JSON document that people hand us may hold, so that PostgreSQL keeps it and everybody can read it. Pure."""

from collections.abc import Iterable
from math import isfinite

_DEEPEST = 8
_LARGEST_INTEGER = 2**63


def check_document(value: object, *, most_values: int = 5_000, longest_text: int = 10_000) -> None:
    """Raises ValueError with what is wrong, unless depth, size, numbers and texts are within bounds."""
    level: list[object] = [value]
    seen = 0
    for _ in range(_DEEPEST + 1):
        seen += len(level)
        if seen > most_values:
            raise ValueError(f"holds more than {most_values} values")
        below: list[object] = []
        for each in level:
            below.extend(_inside(each, longest_text))
        if not below:
            return
        level = below
    raise ValueError(f"is nested deeper than {_DEEPEST} levels")


def _inside(value: object, longest_text: int) -> Iterable[object]:
    match value:
        case None | bool():
            return ()
        case str():
            _check_text(value, longest_text)
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
                _check_text(key, longest_text)
            return value.values()
        case list():
            return value
    raise ValueError("is no JSON")


def _check_text(text: str, longest: int) -> None:
    if len(text) > longest:
        raise ValueError(f"holds a text of more than {longest} characters")
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None
