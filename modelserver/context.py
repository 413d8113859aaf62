"""Who is calling, for user code that wants to know: one object, with its own content in each worker thread."""

import threading
from collections.abc import Iterable

RawHeaders = Iterable[tuple[bytes, bytes]]


class CurrentRequest(threading.local):
    """The request that this thread is answering; without headers outside `process_request`.

    Nothing is decoded until it is asked for, so a model that never looks pays nothing.
    """

    _raw: RawHeaders = ()

    @property
    def headers(self) -> dict[str, str]:
        """Header names in lower case; a repeated header is joined by commas, as HTTP defines it."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._raw:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    @property
    def user(self) -> str | None:
        """The client that the gateway has authenticated; None on a public endpoint."""
        return self.headers.get("x-forwarded-user")

    def set(self, raw: RawHeaders) -> None:
        """For the worker alone: what the next calls of this thread shall see."""
        self._raw = raw


current_request = CurrentRequest()
