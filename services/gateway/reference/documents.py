"""The documents that the reference shows, read and rendered once: they change only with the program."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from services.gateway.reference.markdown import to_html
from services.gateway.reference.page import reference, shell
from shared.errors import Unavailable


class Documents:
    """`openapi_file` is what `python -m deploy.openapi` has made; the list of errors lies beside it.

    Each raises Unavailable while its file is missing.
    """

    def __init__(self, openapi_file: Path) -> None:
        self._openapi_file = openapi_file

    @cached_property
    def openapi(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(_read(self._openapi_file))
        return document

    @cached_property
    def reference_page(self) -> str:
        return reference(self.openapi)

    @cached_property
    def errors_page(self) -> str:
        return shell("Errors of the Moorage API", to_html(_read(self._openapi_file.with_name("errors.md"))))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise Unavailable(f"The documentation is not installed: {path.name} is missing.", retry_after=60) from error
