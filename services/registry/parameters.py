"""What the registry's routes are called with: path and query parameters."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Query

from shared.errors import ValidationFailed
from shared.http import PageQuery
from shared.http.schemas import LABEL

GroupId = Annotated[str, Path(pattern=LABEL, max_length=40, description="the group's id", examples=["risk"])]
UserId = Annotated[
    str, Path(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=63, description="the user's name", examples=["ana"])
]
InstanceTypeId = Annotated[str, Path(pattern=LABEL, max_length=40, description="its id", examples=["cpu-1"])]
ModelName = Annotated[
    str, Path(pattern=LABEL, max_length=63, description="the model's name in its group", examples=["churn"])
]
VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="the version's number, from 1", examples=[3])]


async def _dry_run(
    dry_run: Annotated[bool, Query(description="answer what would change, and change nothing")] = False,
) -> None:
    """TransactionRoute does it; this shows it in OpenAPI."""


DRY_RUN = [Depends(_dry_run)]

Words = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="words to search for")]


def after(paging: PageQuery, *kinds: type) -> tuple[Any, ...] | None:
    """The key that the page starts after, if it is one that a list sorted by values of these kinds can have given."""
    key = paging.after
    if key is None:
        return None
    try:
        return tuple(_part(part, kind) for part, kind in zip(key, kinds, strict=True))
    except ValueError as error:
        raise ValidationFailed.of("query/cursor", "is not a cursor of this list; start without one") from error


def _part(part: object, kind: type) -> object:
    if kind is datetime and isinstance(part, str):
        at = datetime.fromisoformat(part)
        fits = at.tzinfo is not None
        part = at
    elif kind is int:
        fits = isinstance(part, int) and not isinstance(part, bool) and abs(part) < 2**63
    else:
        fits = isinstance(part, str) and part.isprintable()
    if not fits:
        raise ValueError
    return part
