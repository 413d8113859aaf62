"""What each grant of the token endpoint takes, and the sign-in that it begins or goes on with.

A refusal is one of OAuth's errors. What a refusal writes (a used token, an ended sign-in) is committed here, since the
error would roll it back.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request

from services.gateway.errors import InvalidClient, InvalidGrant, InvalidRequest
from services.gateway.identity import commands, queries
from services.gateway.identity.domain import LONGEST_PASSWORD, basic_credentials, is_user_name
from services.gateway.parts import Parts
from services.gateway.service_accounts.commands import sign_in
from services.gateway.sign_ins.commands import Started, TokenReused, begin, renew, use_code
from services.gateway.sign_ins.domain import Origin
from shared.http import Unit
from shared.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Grants:
    """Of one request. Sets `request.state.user` for the audit log, once it is known."""

    request: Request
    unit: Unit
    parts: Parts
    origin: Origin
    now: datetime

    async def password(self, user: str | None, password: str | None) -> Started:
        if user is None or password is None:
            raise InvalidRequest("grant_type=password needs username and password.")
        session, passwords = self.unit.session, self.parts.passwords
        attempt = self.parts.throttle.take(user=user, address=self.origin.address, now=time.monotonic())
        while True:
            account = await queries.account_of(session, user)
            await session.rollback()  # hashing takes its time, and the connection is needed by others
            # Who is not known is not recorded: people type their password where their name belongs.
            self.request.state.user = account.user if account else None
            known_hash = account.password_hash if account else None
            matches = len(password) <= LONGEST_PASSWORD and await passwords.verify(known_hash, password)
            if not matches or account is None or known_hash is None or account.disabled:
                # One answer for all of it, or user names could be found out.
                log.info("sign_in.refused", known=account is not None, disabled=bool(account and account.disabled))
                raise InvalidGrant("The user name or the password is wrong, or the account is disabled.")
            renewed = await passwords.hash(password) if passwords.is_outdated(known_hash) else None
            if await commands.lock_user(session, account.user, password_hash=known_hash):
                break  # else it has been changed while we hashed: see whether the password is good now
        attempt.succeeded()
        started = await begin(
            session, account.user, method="password", origin=self.origin, lives=self.parts.lives, now=self.now
        )
        if renewed is not None:
            await commands.renew_hash(session, account.user, renewed)
        return started

    async def refresh_token(self, token: str | None) -> Started:
        if token is None:
            raise InvalidRequest("grant_type=refresh_token needs refresh_token.")
        self.unit.audited = False  # the sign-in is on record; each hour of it need not be
        try:
            started = await renew(self.unit.session, token, lives=self.parts.lives, now=self.now)
        except TokenReused as error:
            await self.unit.session.commit()
            self.request.state.user = error.user
            log.warning("refresh_token.reused")
            raise InvalidGrant("This refresh token was used before, so its sign-in has ended; sign in again.") from None
        if started is None:
            await self.unit.session.commit()
            raise InvalidGrant(
                "The refresh token is not known, has expired or belongs to a disabled user; sign in again."
            )
        return started

    async def client_credentials(self, client: str | None, secret: str | None) -> Started:
        client, secret = basic_credentials(self.request.headers.get("authorization", "")) or (client, secret)
        if not client or not secret:
            raise InvalidRequest("grant_type=client_credentials needs client_id and client_secret, or HTTP Basic.")
        session = self.unit.session
        attempt = self.parts.throttle.take(user=client, address=self.origin.address, now=time.monotonic())
        # Its 256 random bits cannot be guessed, so a plain hash does; a look at the names alone would cost as much.
        if not is_user_name(client) or not await sign_in(session, client, secret, now=self.now):
            log.info("client_credentials.refused")
            raise InvalidClient("The client_id or the client_secret is wrong, or the service account is disabled.")
        attempt.succeeded()
        self.request.state.user = client
        return await begin(
            session,
            client,
            method="client_credentials",
            origin=self.origin,
            lives=self.parts.lives,
            now=self.now,
            renewable=False,
        )

    async def authorization_code(self, code: str | None, verifier: str | None, redirect_uri: str | None) -> Started:
        if code is None or verifier is None or redirect_uri is None:
            raise InvalidRequest("grant_type=authorization_code needs code, code_verifier and redirect_uri.")
        self.unit.audited = False  # the sign-in is on record since the browser came back
        started = await use_code(
            self.unit.session,
            code,
            verifier=verifier,
            redirect_uri=redirect_uri,
            lives=self.parts.lives,
            now=self.now,
        )
        if started is None:
            await self.unit.session.commit()
            raise InvalidGrant(
                "The code is not known, was used, has expired or is not yours; begin at /auth/login again."
            )
        return started
