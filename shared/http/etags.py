"""Strong ETags and `If-Match`. A resource's tag is the number of its last accepted change.

What nobody changes through the API has no such number: its tag is made of its content.
"""

import hashlib
from typing import Annotated, Any

from fastapi import Header

from shared.errors import VersionConflict

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="make the change only if the resource still has this ETag"),
]
"""Declare it as `if_match: IfMatch = None`: without the default the header would be required."""


def described(*headers: str) -> dict[str, Any]:
    """For a route that answers with them and others of its kind do not; `shared.http.openapi` says what they are."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def etag(version: int) -> str:
    return f'"{version}"'


def content_etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": described("ETag")}}
"""One of a route's `responses`, where no `If-Match` says already that its answer has an ETag."""


def check_match(if_match: str | None, version: int) -> None:
    """Raises VersionConflict unless `if_match` is absent, `*`, or names the present version."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag(version) not in {tag.strip() for tag in if_match.split(",")}:
        raise VersionConflict(
            "The resource has changed since you read it; read it again and repeat your change.", etag=etag(version)
        )
