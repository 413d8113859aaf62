"""The example request of a model: `example.json` at the top of its folder, the body of one request that it takes.

Help, and no part of the model: one that is too large, no JSON, no object or beyond what PostgreSQL keeps is as good as
none. Pure.
"""

import json
from pathlib import PurePosixPath
from typing import Any

from services.registry.documents import check_document

LIMIT = 16 << 10
"""Most bytes of one."""

_NAME = "example.json"


class Candidates:
    """Fed with an archive's entries in their order. Which of them is at the top is known at the end only: as a replica
    unpacks it, the only folder at the top is the model's folder."""

    def __init__(self) -> None:
        self._first: str | None = None
        self._texts: dict[PurePosixPath, bytes] = {}

    def wants(self, path: PurePosixPath, size: int) -> bool:
        """Whether the content of this file is to be handed to `add`. Of folders only the first one's: with another one
        beside it, none is the model's."""
        self._first = self._first or next(iter(path.parts), None)
        tops = (PurePosixPath(_NAME), PurePosixPath(self._first or "", _NAME))
        return size <= LIMIT and path in tops

    def add(self, path: PurePosixPath, text: bytes) -> None:
        self._texts[path] = text

    def choose(self, names: dict[PurePosixPath, bool]) -> dict[str, Any] | None:
        """`names` are all entries, with whether each is a folder."""
        tops = {path.parts[0] for path in names if path.parts}
        only = PurePosixPath(*tops) if len(tops) == 1 else PurePosixPath()
        folder = PurePosixPath() if names.get(only) is False else only
        text = self._texts.get(folder / _NAME)
        return None if text is None else parse(text)


def parse(text: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
        check_document(document, most_values=LIMIT, longest_text=LIMIT)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
