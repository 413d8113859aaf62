"""Pure rules of personal access tokens: for how long, and with which scopes."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.errors import ValidationFailed

MOST = 50
"""Tokens of a user."""

KEPT = timedelta(days=30)
"""How long an expired one is still listed."""

_USUAL = timedelta(days=90)
_LONGEST = timedelta(days=366)


def expiry(wanted: datetime | None, *, now: datetime) -> datetime:
    """Raises ValidationFailed."""
    if wanted is None:
        return now + _USUAL
    if not now < wanted <= now + _LONGEST:
        raise ValidationFailed.of("/expires_at", "must be within the next 366 days")
    return wanted


def check_scopes(scopes: Sequence[str]) -> None:
    """Raises ValidationFailed for two scopes on one group: which of them counts?"""
    groups = [scope.partition(":")[0] for scope in scopes]
    if twice := sorted({group for group in groups if groups.count(group) > 1}):
        raise ValidationFailed.of("/scopes", f"holds more than one scope on {twice[0]}")
