"""The documents that the reference shows, read from disk; they change only with the program."""

import json
from pathlib import Path
from typing import Any

from shared.errors import Unavailable


class Documents:
    """`openapi_file` is what `python -m deploy.openapi` has made; the list of errors lies beside it."""

    def __init__(self, openapi_file: Path) -> None:
        self._openapi_file = openapi_file
        self._openapi: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        """Raises Unavailable."""
        if self._openapi is None:
            self._openapi = json.loads(_read(self._openapi_file))
        return self._openapi

    def errors(self) -> str:
        """Markdown. Raises Unavailable."""
        return _read(self._openapi_file.with_name("errors.md"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise Unavailable(f"The documentation is not installed: {path.name} is missing.", retry_after=60) from error
