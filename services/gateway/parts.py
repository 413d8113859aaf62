"""What the gateway's routes work with, made by `app.py` and handed to them by `CurrentParts`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.identity.keys import SigningKeys
from services.gateway.identity.passwords import Passwords
from services.gateway.identity.throttle import Throttle
from services.gateway.reconciler import Reconciler
from services.gateway.reference.documents import Documents
from services.gateway.settings import GatewaySettings


@dataclass(frozen=True)
class Parts:
    settings: GatewaySettings
    keys: SigningKeys
    passwords: Passwords
    throttle: Throttle
    reconciler: Reconciler
    documents: Documents


async def _parts(request: Request) -> Parts:  # not `def`: FastAPI would run it in a thread
    parts: Parts = request.app.state.parts
    return parts


CurrentParts = Annotated[Parts, Depends(_parts)]
