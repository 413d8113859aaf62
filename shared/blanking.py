"""Blanks what is secret in a text, for logs and the audit log: a last line of defence, since it should not be there.

Known are our own tokens and JWTs by their looks, and whatever stands after a name that says so: in a query, a form,
JSON, a header or the address of a server. Anybody may choose the text, so it is linear in it: a match is tried only
where a run of its characters begins, no run is given back, and what comes before a name is not looked at.
"""

import re
from typing import Any

_BLANK = "***"

_LOOKS = re.compile(
    r"moor_[A-Za-z0-9.-]{1,63}_[A-Za-z0-9_-]{20,}+"
    r"|moor(?:pat|sec)_[A-Za-z0-9]{20,}+"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++"
)

_NAMED = re.compile(
    r"""((?:password|secret|token|signature|verifier|[?&]code)=)[^\s&"']++"""
    r"""|((?:password|secret|token|signature|verifier)["']\s{0,2}:\s{0,2}["'])[^"']++"""
    r"|((?<![A-Za-z])(?:bearer|basic)\s{1,2})[A-Za-z0-9+/=._~-]{8,}+"
    r"|(://[^/\s:@]{0,64}:)[^/\s@]{1,256}+(?=@)",
    re.IGNORECASE,
)

_SECRET_WORDS = ("password", "token", "secret", "authorization", "signature", "cookie")


def blanked(text: str) -> str:
    """The text without what is secret in it."""
    return _NAMED.sub(lambda found: f"{found[found.lastindex or 0]}{_BLANK}", _LOOKS.sub(_BLANK, text))


def blanked_field(name: str, value: Any) -> Any:
    """The value of a field: blank if its name says so, else without what is secret anywhere in it."""
    if any(word in name.lower() for word in _SECRET_WORDS):
        return _BLANK
    match value:
        case str():
            return blanked(value)
        case bytes():
            return blanked(value.decode("utf-8", "replace"))
        case dict():
            return {key: blanked_field(str(key), each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [blanked_field("", each) for each in value]
    return value
