"""Keyset pages: `{"items": […], "next": cursor or null}`, stable while rows are written.

A cursor holds the sort key of the last row shown; it is opaque to clients and checked like any input.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from shared.errors import ValidationFailed

T = TypeVar("T")
Row = TypeVar("Row")


class Page(BaseModel, Generic[T]):
    items: list[T] = Field(description="at most `limit` of them")
    next: str | None = Field(
        description="give it back as `cursor` for the next page; null on the last", examples=["WyJyaXNrIl0"]
    )
    total: int | None = Field(
        default=None,
        description="number of all items, with `count=true` only",
        examples=[1],
        exclude_if=lambda total: total is None,
    )


@dataclass(frozen=True)
class PageQuery:
    limit: int
    after: tuple[Any, ...] | None
    count: bool

    def start(self, *kinds: type[str] | type[int] | type[datetime]) -> tuple[Any, ...] | None:
        """`after` as values of these types, one for each column of the sort key; None on the first page.

        Raises ValidationFailed for a cursor of another list.
        """
        if self.after is None:
            return None
        if len(self.after) != len(kinds):
            raise _foreign_cursor()
        return tuple(_typed(part, kind) for part, kind in zip(self.after, kinds, strict=True))

    def page(self, rows: Sequence[Row], *, key: Callable[[Row], tuple[Any, ...]]) -> tuple[Sequence[Row], str | None]:
        """Cut `limit + 1` rows, as queried, to a page and its `next` cursor."""
        if len(rows) <= self.limit:
            return rows, None
        return rows[: self.limit], encode_cursor(key(rows[self.limit - 1]))


def encode_cursor(key: tuple[Any, ...]) -> str:
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(json.dumps(parts, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str | int, ...]:
    """Raises ValidationFailed for what `encode_cursor` has not made."""
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise _foreign_cursor() from error
    if not isinstance(key, list) or not all(type(part) in (str, int) for part in key):
        raise _foreign_cursor()
    return tuple(key)


def _typed(part: str | int, kind: type) -> str | int | datetime:
    if kind is datetime and isinstance(part, str):
        try:
            at = datetime.fromisoformat(part)
        except ValueError as error:
            raise _foreign_cursor() from error
        if at.tzinfo is None:
            raise _foreign_cursor()
        return at
    if type(part) is not kind or (isinstance(part, int) and not -(2**63) <= part < 2**63):
        raise _foreign_cursor()
    if isinstance(part, str) and not part.isprintable():
        raise _foreign_cursor()
    return part


def _foreign_cursor() -> ValidationFailed:
    return ValidationFailed.of("query/cursor", "is not a cursor of this list; start without one")


async def _page_query(  # not `def`: FastAPI would run it in a thread
    limit: Annotated[int, Query(ge=1, le=200, description="most items on the page")] = 50,
    cursor: Annotated[str | None, Query(max_length=2000, description="`next` of the page before")] = None,
    count: Annotated[bool, Query(description="add `total`")] = False,
) -> PageQuery:
    return PageQuery(limit=limit, after=decode_cursor(cursor) if cursor else None, count=count)


Paging = Annotated[PageQuery, Depends(_page_query)]
