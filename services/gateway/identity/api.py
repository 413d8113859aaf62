"""The token endpoint (RFC 6749), token revocation (RFC 7009) and the public keys (RFC 7517)."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from services.gateway.access_tokens.commands import revoke_token as revoke
from services.gateway.access_tokens.queries import token_behind
from services.gateway.errors import InvalidClient, InvalidGrant, InvalidRequest, UnsupportedGrantType
from services.gateway.identity.grants import Grants
from services.gateway.identity.schemas import KeySet, OAuthProblem, TokenAnswer
from services.gateway.origins import WebOrigin
from services.gateway.parameters import CurrentOrigin
from services.gateway.parts import CurrentParts
from services.gateway.settings import GatewaySettings
from services.gateway.sign_ins.commands import end
from services.gateway.sign_ins.queries import sign_in_behind
from shared.access_tokens import is_token
from shared.errors import TooManyRequests
from shared.http import CurrentUnit, TransactionRoute
from shared.http.problems import raises
from shared.schema import AccessToken, SignIn

router = APIRouter(route_class=TransactionRoute, tags=["sign-in"])

_OFFERED = ("password", "refresh_token", "client_credentials", "authorization_code")
_SECRET = {"format": "password"}


@router.post(
    "/auth/token",
    summary="Sign in, or renew a sign-in",
    responses=raises(
        InvalidClient, InvalidGrant, InvalidRequest, UnsupportedGrantType, TooManyRequests, document=OAuthProblem
    ),
)
async def create_token(
    *,
    request: Request,
    unit: CurrentUnit,
    parts: CurrentParts,
    origin: CurrentOrigin,
    grant_type: Annotated[
        str | None, Form(description=" or ".join(f"`{each}`" for each in _OFFERED), examples=["password"])
    ] = None,
    username: Annotated[str | None, Form(description="with grant_type=password", examples=["ana"])] = None,
    password: Annotated[
        str | None,
        Form(description="with grant_type=password", examples=["a better password"], json_schema_extra=_SECRET),
    ] = None,
    refresh_token: Annotated[str | None, Form(description="with grant_type=refresh_token; good for one use")] = None,
    client_id: Annotated[
        str | None, Form(description="with grant_type=client_credentials: the service account; or as HTTP Basic")
    ] = None,
    client_secret: Annotated[
        str | None, Form(description="with grant_type=client_credentials", json_schema_extra=_SECRET)
    ] = None,
    code: Annotated[
        str | None, Form(description="with grant_type=authorization_code: what `/auth/login` brought back; good once")
    ] = None,
    code_verifier: Annotated[str | None, Form(description="what the `code_challenge` was made of")] = None,
    redirect_uri: Annotated[str | None, Form(description="the same as at `/auth/login`")] = None,
) -> TokenAnswer:
    """The OAuth 2 token endpoint. A refresh token is good once and gives the next; using one twice ends that sign-in.
    After ten failed tries from one address with one user name, each further one has to wait."""
    _check_page(request.headers.get("origin"), parts.settings)
    now = datetime.now(UTC)
    unit.stands = True  # or a used token would be good again
    grants = Grants(request=request, unit=unit, parts=parts, origin=origin, now=now)
    match grant_type:
        case "password":
            started = await grants.password(username, password)
        case "refresh_token":
            started = await grants.refresh_token(refresh_token)
        case "client_credentials":
            started = await grants.client_credentials(client_id, client_secret)
        case "authorization_code":
            started = await grants.authorization_code(code, code_verifier, redirect_uri)
        case None:
            raise InvalidRequest("grant_type is missing; send it in the body, form-encoded.", offered=_OFFERED)
        case _:
            raise UnsupportedGrantType(f"Offered are {', '.join(_OFFERED)}.", offered=_OFFERED)
    return parts.answer(started, now=now)


def _check_page(origin: str | None, settings: GatewaySettings) -> None:
    """Raises InvalidRequest for the page of a stranger, which could try passwords out of its visitors' browsers. What
    is no page has no origin. By the settings, since a proxy may put any name into Host."""
    if origin is None:
        return
    page = WebOrigin.of(origin)
    if page is None or page not in [WebOrigin.of(each) for each in (settings.public_url, *settings.web_origins)]:
        raise InvalidRequest(
            "No page of this origin may sign in here: those of MOORAGE_PUBLIC_URL and MOORAGE_WEB_ORIGINS may."
        )


@router.post("/auth/revoke", summary="Sign out, as OAuth 2 has it")
async def revoke_token(
    request: Request,
    unit: CurrentUnit,
    token: Annotated[
        str,
        Form(
            description="an access token, also a personal one, or a refresh token",
            examples=["bW9vcmFnZS1leGFtcGxlLXJlZnJlc2gtdG9rZW4"],
            json_schema_extra=_SECRET,
        ),
    ],
    token_type_hint: Annotated[str | None, Form(description="not needed")] = None,  # noqa: ARG001 - of RFC 7009
) -> None:
    """RFC 7009: ends the sign-in that the token is of, with all its tokens; or the one personal access token. Also 200
    for a token that is not good."""
    verifier = request.app.state.core.verifier
    of_sign_in = None if is_token(token) else await sign_in_behind(unit.session, token, verifier=verifier)
    row = of_sign_in or await token_behind(unit.session, token)
    unit.audited = row is not None
    match row:
        case SignIn():
            await end(unit.session, [row])
        case AccessToken():
            await revoke(unit.session, row)
    request.state.user = row.user_id if row else None


@router.get("/.well-known/jwks.json", summary="The public keys that verify access tokens")
async def list_keys(response: Response, parts: CurrentParts) -> KeySet:
    """Also at `/.well-known/jwks.json`, without the prefix. Keys change a few times a year, with overlap."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=await parts.keys.published())
