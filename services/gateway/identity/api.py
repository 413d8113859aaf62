"""The token endpoint (RFC 6749) and the public keys (RFC 7517)."""

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from services.gateway.errors import InvalidClient, InvalidGrant, InvalidRequest, UnsupportedGrantType
from services.gateway.identity import commands, queries
from services.gateway.identity.domain import LONGEST_PASSWORD, basic_credentials, is_user_name
from services.gateway.identity.schemas import KeySet, OAuthProblem, TokenAnswer
from services.gateway.parts import CurrentParts, Parts
from services.gateway.service_accounts.commands import sign_in
from shared.http import CurrentUnit, TransactionRoute, Unit
from shared.http.addresses import address_of
from shared.http.problems import documented
from shared.telemetry import get_logger

log = get_logger(__name__)

router = APIRouter(route_class=TransactionRoute, tags=["sign-in"])

_OFFERED = ("password", "refresh_token", "client_credentials")


@router.post(
    "/auth/token",
    summary="Sign in, or renew a sign-in",
    responses={
        401: documented("The client credentials are not good", OAuthProblem),
        400: documented("The grant is not good; `error` says why in OAuth's words", OAuthProblem),
        429: documented("Too many failed sign-ins from this address: see Retry-After", OAuthProblem),
    },
)
async def create_token(
    *,
    request: Request,
    response: Response,
    unit: CurrentUnit,
    parts: CurrentParts,
    grant_type: Annotated[str | None, Form(description="`password`, `refresh_token` or `client_credentials`")] = None,
    username: Annotated[str | None, Form(description="with grant_type=password")] = None,
    password: Annotated[
        str | None, Form(description="with grant_type=password", json_schema_extra={"format": "password"})
    ] = None,
    refresh_token: Annotated[str | None, Form(description="with grant_type=refresh_token; good for one use")] = None,
    client_id: Annotated[
        str | None, Form(description="with grant_type=client_credentials: the service account; or as HTTP Basic")
    ] = None,
    client_secret: Annotated[
        str | None, Form(description="with grant_type=client_credentials", json_schema_extra={"format": "password"})
    ] = None,
) -> TokenAnswer:
    """The OAuth 2 token endpoint. A refresh token is good once and gives the next; using one twice ends all that came
    of that sign-in. After ten failed tries from one address with one user name, each further one has to wait."""
    now = datetime.now(UTC)
    response.headers["Cache-Control"] = "no-store"
    next_token: str | None = None
    match grant_type:
        case "password":
            user, next_token = await _by_password(request, unit, parts, username, password, now=now)
        case "refresh_token":
            unit.audited = False  # the sign-in is on record; each hour of it need not be
            user, next_token = await _by_refresh_token(request, unit, parts, refresh_token, now=now)
        case "client_credentials":
            user = await _by_client_credentials(request, unit, parts, client_id, client_secret, now=now)
        case None:
            raise InvalidRequest("grant_type is missing; send it in the body, form-encoded.", offered=_OFFERED)
        case _:
            raise UnsupportedGrantType(f"Offered are {', '.join(_OFFERED)}.", offered=_OFFERED)
    return TokenAnswer(
        access_token=parts.keys.access_token(user, now=now),
        expires_in=parts.settings.access_token_seconds,
        refresh_token=next_token,
    )


async def _by_password(
    request: Request, unit: Unit, parts: Parts, username: str | None, password: str | None, *, now: datetime
) -> tuple[str, str]:
    if username is None or password is None:
        raise InvalidRequest("grant_type=password needs username and password.")
    attempt = parts.throttle.take(user=username, address=address_of(request), now=time.monotonic())
    while True:
        account = await queries.account_of(unit.session, username)
        await unit.session.rollback()  # hashing takes its time, and the connection is needed by others
        # Who is not known is not recorded: people type their password where their name belongs.
        request.state.user = account.user if account else None
        known_hash = account.password_hash if account else None
        matches = len(password) <= LONGEST_PASSWORD and await parts.passwords.verify(known_hash, password)
        if not matches or account is None or known_hash is None or account.disabled:
            # One answer for all of it, or user names could be found out.
            log.info("sign_in.refused", known=account is not None, disabled=bool(account and account.disabled))
            raise InvalidGrant("The user name or the password is wrong, or the account is disabled.")
        if await commands.lock_sign_ins(unit.session, account.user, password_hash=known_hash):
            break  # else it has been changed while we hashed: see whether the password is good now
    attempt.succeeded()
    lifetime = parts.settings.refresh_token_seconds
    token = await commands.new_refresh_token(unit.session, account.user, now=now, lifetime=lifetime)
    await unit.session.commit()
    if parts.passwords.is_outdated(known_hash):
        renewed = await parts.passwords.hash(password)
        await commands.renew_hash(unit.session, account.user, before=known_hash, after=renewed)
        await unit.session.commit()
    return account.user, token


async def _by_refresh_token(
    request: Request, unit: Unit, parts: Parts, token: str | None, *, now: datetime
) -> tuple[str, str]:
    if token is None:
        raise InvalidRequest("grant_type=refresh_token needs refresh_token.")
    lifetime = parts.settings.refresh_token_seconds
    try:
        used = await commands.use_refresh_token(unit.session, token, now=now, lifetime=lifetime)
    except commands.TokenReused as error:
        await unit.session.commit()  # the refusal must not roll back what it is about
        request.state.user = error.user
        log.warning("refresh_token.reused")
        raise InvalidGrant("This refresh token was used before, so its sign-in has ended; sign in again.") from None
    # Committed here, whatever the answer: neither an error nor dry_run may make a used token good again.
    await unit.session.commit()
    if used is None:
        raise InvalidGrant("The refresh token is not known, has expired or belongs to a disabled user; sign in again.")
    return used


async def _by_client_credentials(
    request: Request, unit: Unit, parts: Parts, client: str | None, secret: str | None, *, now: datetime
) -> str:
    client, secret = basic_credentials(request.headers.get("authorization", "")) or (client, secret)
    if not client or not secret:
        raise InvalidRequest("grant_type=client_credentials needs client_id and client_secret, or HTTP Basic.")
    attempt = parts.throttle.take(user=client, address=address_of(request), now=time.monotonic())
    # Its 256 random bits cannot be guessed, so a plain hash does; a look at the names alone would cost as much.
    if not is_user_name(client) or not await sign_in(unit.session, client, secret, now=now):
        log.info("client_credentials.refused")
        raise InvalidClient("The client_id or the client_secret is wrong, or the service account is disabled.")
    attempt.succeeded()
    request.state.user = client
    await unit.session.commit()  # a sign-in stands, whatever dry_run says
    return client


@router.get("/.well-known/jwks.json", summary="The public keys that verify access tokens")
async def list_keys(response: Response, parts: CurrentParts) -> KeySet:
    """Also at `/.well-known/jwks.json`, without the prefix. Keys change a few times a year, with overlap."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=await parts.keys.published())
