"""Ids of personal groups. Pure."""

import hashlib
import re
from collections.abc import Iterator

_LONGEST = 40


def personal_ids(user: str) -> Iterator[str]:
    """Ids for the user's personal group, the most readable first; take the first that is free.

    A user's name may hold dots and underscores and be longer than an id, so two users may have the same slug; then a
    hash of the name tells them apart, and a longer one if need be.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", user).strip("-")
    digest = hashlib.sha256(user.encode()).hexdigest()
    if len(slug) <= _LONGEST:
        yield slug
    for length in (6, 12, 24):
        head = slug[: _LONGEST - length - 1].rstrip("-")
        yield f"{head}-{digest[:length]}"
