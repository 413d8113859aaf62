"""Keyset pages: `{"items": […], "next": cursor or null}`, stable while rows are written.

A cursor holds the sort key of the last row shown; it is opaque to clients and checked like any input.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from shared.errors import ValidationFailed

T = TypeVar("T")
Row = TypeVar("Row")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = Field(description="give it back as `cursor` for the next page; null on the last")
    total: int | None = Field(default=None, description="only with count=true", exclude_if=lambda total: total is None)


@dataclass(frozen=True)
class PageQuery:
    limit: int
    after: tuple[Any, ...] | None
    count: bool

    def page(self, rows: Sequence[Row], *, key: Callable[[Row], tuple[Any, ...]]) -> tuple[Sequence[Row], str | None]:
        """Cut `limit + 1` rows, as queried, to a page and its `next` cursor."""
        if len(rows) <= self.limit:
            return rows, None
        return rows[: self.limit], encode_cursor(key(rows[self.limit - 1]))


def encode_cursor(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[Any, ...]:
    """Raises ValidationFailed for what `encode_cursor` has not made."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as error:
        raise ValidationFailed.of("query/cursor", "is not a cursor of ours; start without one") from error
    if not isinstance(key, list) or not all(isinstance(part, str | int) for part in key):
        raise ValidationFailed.of("query/cursor", "is not a cursor of ours; start without one")
    return tuple(key)


def _page_query(
    limit: Annotated[int, Query(ge=1, le=200, description="most items on the page")] = 50,
    cursor: Annotated[str | None, Query(max_length=2000, description="`next` of the page before")] = None,
    count: Annotated[bool, Query(description="add `total`")] = False,
) -> PageQuery:
    return PageQuery(limit=limit, after=decode_cursor(cursor) if cursor else None, count=count)


Paging = Annotated[PageQuery, Depends(_page_query)]
