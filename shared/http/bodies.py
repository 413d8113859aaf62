"""Request bodies: what is held in memory is bounded, and JSON is what RFC 8259 says.

`NaN`, invalid UTF-8 and lone surrogates are no JSON (PostgreSQL could not store them either), and nesting is bounded,
since recursion lurks in whatever handles the value afterwards. Forms are bounded like the rest, in parts or not: the
framework would spool a file in one to the disk, whoever sends it. Uploads are read with `stream()` and have limits of
their own.
"""

import json
from contextlib import aclosing
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request

LONGEST_BODY = 4 * 2**20
"""Most bytes of a body that is not an upload: a model version with long training curves fits."""

_DEEPEST = 64


class BoundedRequest(Request):
    """What our routes are given."""

    @property
    def has_body(self) -> bool:
        return self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    @property
    def is_json(self) -> bool:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))

    async def body(self) -> bytes:
        # FastAPI passes an HTTPException on, and would turn any other error here into its own 400.
        if not hasattr(self, "_body"):
            length = self.headers.get("content-length", "0")
            parts, size = [], int(length) if length.isdecimal() else 0
            if size <= LONGEST_BODY:
                size = 0
                async with aclosing(self.stream()) as stream:
                    async for part in stream:
                        parts.append(part)
                        if (size := size + len(part)) > LONGEST_BODY:
                            break
            if size > LONGEST_BODY:
                raise HTTPException(413, f"The body is longer than {LONGEST_BODY} bytes.")
            self._body = b"".join(parts)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            value = orjson.loads(body)
            # Counting brackets is cheap, and nearly always enough.
            if body.count(b"[") + body.count(b"{") > _DEEPEST and _is_deeper(value):
                raise json.JSONDecodeError(f"nested deeper than {_DEEPEST} levels", "", 0)
            self._json = value
        return self._json


def _is_deeper(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        level = below
    return bool(level)
