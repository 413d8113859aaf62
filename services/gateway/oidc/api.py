"""`/auth/providers`, `/auth/login`, `/auth/callback`: what a browser opens to sign in."""

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from services.gateway.errors import LoginExpired, ProviderRefused, ProviderUnavailable
from services.gateway.identity.schemas import TokenAnswer
from services.gateway.oidc import commands
from services.gateway.oidc.domain import harmless, person_of, redirects_to
from services.gateway.oidc.login import SECONDS, Login, Program, cookie_of
from services.gateway.oidc.schemas import Providers, ProviderView
from services.gateway.parameters import CurrentOrigin
from services.gateway.parts import CurrentParts, Parts
from services.gateway.sign_ins.commands import Started, begin, give_code
from services.gateway.sign_ins.domain import Origin
from shared.errors import MoorageError, NameTaken, NotFound, TooManyRequests, ValidationFailed
from shared.http import TransactionRoute, described, records
from shared.http.problems import raises

router = APIRouter(route_class=TransactionRoute, prefix="/auth", tags=["sign-in"])


def callback_of(provider: str) -> str:
    """Where it sends browsers back to, below the public URL. Each has its own: what one sends there cannot be taken for
    another's (RFC 9700, 4.4)."""
    return f"/api/v1/auth/callback/{provider}"


_REDIRECTS: dict[int | str, dict[str, Any]] = {
    302: {"description": "to the identity provider", "headers": described("Location")}
}


@router.get("/providers", summary="List the identity providers that one can sign in with")
async def list_providers(parts: CurrentParts) -> Providers:
    """Empty where there are only accounts of this platform: those sign in at `/auth/token`."""
    return Providers(
        items=[
            ProviderView(
                name=each.name, title=each.title or each.name, login_url=f"/api/v1/auth/login?provider={each.name}"
            )
            for each in parts.settings.oidc_providers
        ]
    )


@router.get(
    "/login",
    status_code=302,
    response_class=RedirectResponse,
    responses=_REDIRECTS | raises(NotFound, ProviderUnavailable),
    summary="Sign in with an identity provider",
)
async def begin_login(
    *,
    request: Request,
    parts: CurrentParts,
    provider: Annotated[str | None, Query(max_length=40, description="its name; not needed if there is one")] = None,
    redirect_uri: Annotated[
        str | None,
        Query(
            max_length=500,
            pattern=r"^[\x21-\x7e]*$",
            description="where the program waits that wants the tokens: on loopback, or at one of MOORAGE_WEB_ORIGINS",
        ),
    ] = None,
    state: Annotated[str, Query(max_length=500, description="comes back to `redirect_uri` as it is")] = "",
    code_challenge: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9_-]{43}$", description="with redirect_uri: RFC 7636, S256")
    ] = None,
) -> Response:
    """For a browser. It comes back to `/auth/callback`, which answers with tokens; or, with a `redirect_uri`, sends it
    on there with a `code` that `/auth/token` takes once (`authorization_code`), so that no token is in an address."""
    client = parts.provider(provider)
    login = Login.begun(client.provider.name, _program(parts, redirect_uri, state, code_challenge))
    response = RedirectResponse(await client.authorization_url(login), status_code=302)
    response.set_cookie(
        cookie_of(login.state),
        login.sealed(request.app.state.core.vault),
        max_age=SECONDS,
        path=callback_of(login.provider),
        secure=parts.settings.public_url.startswith("https://"),
        httponly=True,
        samesite="lax",  # the provider's redirect is another site's navigation
    )
    return response


@router.get(
    "/callback/{provider}",
    response_model=TokenAnswer,
    responses={
        302: {
            "description": "to the program's `redirect_uri`, with `code` and `state`, or `error` and `state`",
            "headers": described("Location"),
        },
        **raises(LoginExpired, ProviderRefused, ProviderUnavailable, TooManyRequests, NameTaken),
    },
    summary="Come back from an identity provider",
)
async def finish_login(
    *,
    request: Request,
    parts: CurrentParts,
    origin: CurrentOrigin,
    provider: Annotated[str, Path(max_length=40, description="which one sends the browser", examples=["corp"])],
    state: Annotated[str, Query(max_length=500, description="which sign-in it is that comes back")],
    code: Annotated[str | None, Query(max_length=4000, description="what the provider exchanges for claims")] = None,
    iss: Annotated[str | None, Query(max_length=500, description="the provider's issuer (RFC 9207)")] = None,
    error: Annotated[str | None, Query(max_length=200, description="why there is no code")] = None,
    error_description: Annotated[str | None, Query(max_length=1000, description="the same in words")] = None,
) -> Response:
    """Where the provider sends the browser. A person who is new here becomes a user, with a personal group; what the
    claims say of groups becomes memberships."""
    name = cookie_of(state)
    login = Login.opened(request.cookies.get(name, ""), request.app.state.core.vault, state=state)
    if login is None or login.provider != provider:
        raise LoginExpired("This sign-in was begun by another browser, or too long ago; begin again at /auth/login.")
    now = datetime.now(UTC)
    try:
        if code is None:
            said = harmless(error_description or error or "nothing")
            raise ProviderRefused(f"{provider} says: {said}", provider=provider, error=harmless(error or ""))
        response = await _finish(request, parts, login, origin, code=code, iss=iss, now=now)
    except MoorageError as refusal:
        if login.program is None:
            raise
        if refusal.denial:
            await records.denied(request, refusal, action="finish_login")
        kind = "access_denied" if refusal.denial else "temporarily_unavailable"
        response = _back_to(login.program, error=kind, error_description=refusal.detail)
    response.delete_cookie(name, path=callback_of(provider))
    return response


async def _finish(
    request: Request, parts: Parts, login: Login, origin: Origin, *, code: str, iss: str | None, now: datetime
) -> Response:
    """Who has come back is signed in. All that has to be asked of the provider is asked before the transaction."""
    core, client = request.app.state.core, parts.provider(login.provider)
    attempt = parts.throttle.take(user=f"at {login.provider}", address=origin.address, now=time.monotonic())
    person = person_of(await client.claims(login, code=code, issuer=iss), client.provider)
    attempt.succeeded()
    async with core.sessions.begin() as session:
        user = await commands.admit(session, person, client.provider, all_providers=parts.settings.oidc_providers)
        request.state.user = user.id
        started = await begin(
            session,
            user.id,
            method=login.provider,
            origin=origin,
            lives=parts.lives,
            now=now,
            renewable=login.program is None,  # else the code's exchange gives the first refresh token
            ends_at=now + timedelta(seconds=client.provider.sign_in_seconds),
        )
        response: Response
        if login.program is None:
            response = _tokens(parts, started, now=now)
        else:
            program = login.program
            response = _back_to(
                program,
                code=await give_code(
                    session, started.id, challenge=program.challenge, redirect_uri=program.redirect_uri, now=now
                ),
            )
        # Not the response itself: its address has the code.
        await records.done(request, session, Response(status_code=response.status_code), action="finish_login")
    return response


def _program(parts: Parts, redirect_uri: str | None, state: str, challenge: str | None) -> Program | None:
    if redirect_uri is None:
        return None
    if not redirects_to(redirect_uri, *parts.settings.web_origins, public_url=parts.settings.public_url):
        raise ValidationFailed.of(
            "query/redirect_uri",
            "is neither on loopback nor at an origin that MOORAGE_WEB_ORIGINS names, or is at this platform itself",
        )
    if challenge is None:
        raise ValidationFailed.of("query/code_challenge", "is needed with redirect_uri")
    return Program(redirect_uri=redirect_uri, state=state, challenge=challenge)


def _back_to(program: Program, **result: str) -> Response:
    joint = "&" if "?" in program.redirect_uri else "?"
    query = urlencode({**result, "state": program.state} if program.state else result)
    return RedirectResponse(f"{program.redirect_uri}{joint}{query}", status_code=302)


def _tokens(parts: Parts, started: Started, *, now: datetime) -> Response:
    return JSONResponse(parts.answer(started, now=now).model_dump(mode="json"))
