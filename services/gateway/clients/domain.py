"""What a client's token is."""

import secrets
from datetime import UTC, datetime, timedelta

from services.gateway.envoy.model import EndpointClient, beginning_of
from shared.errors import ValidationFailed

CLIENTS_LIMIT = 1000
"""Clients of one deployment: Envoy holds all of them in the deployment's route."""

OVERLAPS_LIMIT = 10
"""Clients of one deployment that are let in with two tokens: each needs routes of its own, which all requests pass."""

LONGEST_OVERLAP = 7 * 86_400

_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def new_token(client: str, *, mark: str = "") -> tuple[str, str]:
    """A token, to be shown once, and what is kept of it. 256 random bits, so a plain hash of it tells nothing."""
    token = beginning_of(client, mark) + secrets.token_urlsafe(32)
    return token, EndpointClient.of_token(client, token).sha1


def new_mark(client: str, version: int) -> str:
    """What tells the token of this version of a client from the one before; no random part has a dot. It ends where a
    letter of base64 does, so that Envoy can tell it in a Basic header too (`EndpointClient.beginning`)."""
    mark = f"{version}."
    known = len(f"{client}:{beginning_of(client)}{mark}")
    return "0" * (-known % 3) + mark


def overlap_end(seconds: int, *, expires_at: datetime | None, now: datetime) -> datetime | None:
    """Until when the token before is let in, which expires at `expires_at`; None: it ends now."""
    until = now + timedelta(seconds=seconds)
    if expires_at is not None:
        until = min(until, expires_at)
    return until if until > now else None


def check_expiry(expires_at: datetime | None, *, now: datetime) -> None:
    """Raises ValidationFailed for a time that is past, or not to be taken seriously."""
    if expires_at is not None and not now < expires_at < _LATEST:
        raise ValidationFailed.of("/expires_at", "must be in the future, and before the year 2200")
