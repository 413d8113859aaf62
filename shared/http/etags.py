"""Strong ETags and `If-Match`. A resource's tag is the number of its last accepted change."""

from typing import Annotated

from fastapi import Header

from shared.errors import VersionConflict

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="make the change only if the resource still has this ETag"),
]
"""Declare it as `if_match: IfMatch = None`: without the default the header would be required."""


def etag(version: int) -> str:
    return f'"{version}"'


def check_match(if_match: str | None, version: int) -> None:
    """Raises VersionConflict unless `if_match` is absent, `*`, or names the present version."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag(version) not in {tag.strip() for tag in if_match.split(",")}:
        raise VersionConflict(
            "The resource has changed since you read it; read it again and repeat your change.", etag=etag(version)
        )
