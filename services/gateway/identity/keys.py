"""The keys that sign access tokens: made when needed, sealed at rest, kept in memory while they sign."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select

from services.gateway.identity.domain import KEY_KEPT, KEY_LIFE, KeyAge, is_key_due, signing_key
from shared.database import Sessions, is_disconnect
from shared.errors import Unavailable
from shared.schema import SigningKey
from shared.secrets import Tampered, Vault
from shared.telemetry import get_logger
from shared.tokens import KeyPair, generate_key_pair, issue

log = get_logger(__name__)

PURPOSE = "signing-key"

_LOCK = 0x6B657973  # "keys": of several gateways that start at once, one makes the first key
_LOOK_EVERY = 3600.0


class SigningKeys:
    """Issues access tokens; `maintain` runs in the background and rotates the keys with overlap."""

    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self._sessions = sessions
        self._vault = vault
        self._pairs: dict[KeyAge, KeyPair] = {}

    @property
    def ready(self) -> bool:
        return bool(self._pairs)

    def access_token(self, user: str, *, sign_in: UUID, now: datetime, until: datetime) -> str:
        """Raises Unavailable before the first key is there."""
        key = signing_key(self._pairs, now=now)
        if key is None:
            raise Unavailable("The keys that sign access tokens are not loaded yet; try again.")
        return issue(self._pairs[key], user=user, sign_in=sign_in, now=now.timestamp(), until=until.timestamp())

    async def published(self) -> list[dict[str, Any]]:
        """The public keys (JWK) that verify tokens still alive."""
        async with self._sessions() as session:
            return list((await session.execute(select(SigningKey.public_jwk).order_by(SigningKey.kid))).scalars())

    async def maintain(self) -> None:
        while True:
            try:
                await self.refresh(now=datetime.now(UTC))
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("signing_keys.database_away", error=str(error))
                await asyncio.sleep(0.5)
                continue
            await asyncio.sleep(_LOOK_EVERY)

    async def refresh(self, *, now: datetime) -> None:
        """Read the keys, make the next one if it is time, remove what no living token needs."""
        async with self._sessions.begin() as session:
            await session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            await session.execute(delete(SigningKey).where(SigningKey.retires_at < now - KEY_KEPT))
            pairs = self._opened(list((await session.execute(select(SigningKey))).scalars()))
            if is_key_due(pairs, now=now):
                pair = generate_key_pair(uuid4().hex)
                age = KeyAge(kid=pair.kid, created_at=now, retires_at=now + KEY_LIFE)
                session.add(
                    SigningKey(
                        kid=pair.kid,
                        public_jwk=pair.public_jwk,
                        private_sealed=self._vault.seal(pair.private_pem, purpose=PURPOSE),
                        created_at=age.created_at,
                        retires_at=age.retires_at,
                    )
                )
                pairs[age] = pair
                log.info("signing_key.made", kid=pair.kid)
        self._pairs = pairs

    def _opened(self, rows: list[SigningKey]) -> dict[KeyAge, KeyPair]:
        pairs: dict[KeyAge, KeyPair] = {}
        for row in rows:
            try:
                pem = self._vault.open(row.private_sealed, purpose=PURPOSE)
            except Tampered:
                # Sealed under another secret key. It goes on verifying; we sign with one of our own.
                log.warning("signing_key.does_not_open", kid=row.kid)
                continue
            age = KeyAge(kid=row.kid, created_at=row.created_at, retires_at=row.retires_at)
            pairs[age] = KeyPair(kid=row.kid, private_pem=pem, public_jwk=row.public_jwk)
        return pairs
