"""What the gateway's routes work with, made by `app.py` and handed to them by `CurrentParts`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.identity.keys import SigningKeys
from services.gateway.identity.passwords import Passwords
from services.gateway.identity.schemas import TokenAnswer
from services.gateway.identity.throttle import Throttle
from services.gateway.oidc.client import Client
from services.gateway.reconciler import Reconciler
from services.gateway.reference.documents import Documents
from services.gateway.settings import GatewaySettings
from services.gateway.sign_ins.commands import Lives, Started
from shared.errors import NotFound


@dataclass(frozen=True)
class Parts:
    settings: GatewaySettings
    keys: SigningKeys
    passwords: Passwords
    throttle: Throttle
    reconciler: Reconciler
    documents: Documents
    providers: Mapping[str, Client]

    def provider(self, name: str | None) -> Client:
        """The identity provider of that name; without a name the only one. Raises NotFound."""
        if name is None and len(self.providers) == 1:
            return next(iter(self.providers.values()))
        if name is None or name not in self.providers:
            if not self.providers:
                raise NotFound("There is no identity provider; sign in at /auth/token.")
            raise NotFound(f"Name one of the identity providers: {', '.join(self.providers)}.")
        return self.providers[name]

    @property
    def lives(self) -> Lives:
        return Lives(access=self.settings.access_token_seconds, refresh=self.settings.refresh_token_seconds)

    def answer(self, started: Started, *, now: datetime) -> TokenAnswer:
        """The tokens of a sign-in."""
        return TokenAnswer(
            access_token=self.keys.access_token(started.user, sign_in=started.id, now=now, until=started.access_until),
            expires_in=int((started.access_until - now).total_seconds()),
            refresh_token=started.refresh_token,
        )


async def _parts(request: Request) -> Parts:  # not `def`: FastAPI would run it in a thread
    parts: Parts = request.app.state.parts
    return parts


CurrentParts = Annotated[Parts, Depends(_parts)]
