"""What a client's token is."""

import secrets
from datetime import UTC, datetime

from services.gateway.envoy.model import EndpointClient
from shared.errors import ValidationFailed

CLIENTS_LIMIT = 1000
"""Clients of one deployment: Envoy holds all of them in the deployment's route."""

_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def new_token(client: str) -> tuple[str, str]:
    """A token, to be shown once, and what is kept of it. 256 random bits, so a plain hash of it tells nothing."""
    token = f"moor_{client}_{secrets.token_urlsafe(32)}"
    return token, EndpointClient.of_token(client, token).sha1


def check_expiry(expires_at: datetime | None, *, now: datetime) -> None:
    """Raises ValidationFailed for a time that is past, or not to be taken seriously."""
    if expires_at is not None and not now < expires_at < _LATEST:
        raise ValidationFailed.of("/expires_at", "must be in the future, and before the year 2200")
