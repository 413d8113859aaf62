"""Talks to one provider: discovery, keys, and the exchange of a code for what is said of a person.

Discovery and keys are remembered for ten minutes; keys are read again for a key id that is not known. What the provider
answers is checked as OpenID Connect Core 3.1.3.7 has it.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from services.gateway.errors import ProviderRefused, ProviderUnavailable
from services.gateway.oidc.domain import harmless
from services.gateway.oidc.login import Login
from services.gateway.oidc.settings import IdentityProvider, safe_url
from services.gateway.sign_ins.domain import challenge_of
from shared import jwt
from shared.telemetry import get_logger

log = get_logger(__name__)

_ALGORITHMS = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "ES256": "EC", "ES384": "EC", "ES512": "EC"}
_KNOWN_FOR = 600.0
_LONGEST = 2**20  # bytes of an answer
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Client:
    """`redirect_uri` is where the provider sends browsers back to."""

    def __init__(self, provider: IdentityProvider, http: httpx.AsyncClient, *, redirect_uri: str) -> None:
        self.provider = provider
        self._http = http
        self._redirect_uri = redirect_uri
        self._metadata: Mapping[str, Any] = {}
        self._metadata_at = float("-inf")
        self._keys: list[dict[str, Any]] = []
        self._keys_at = float("-inf")

    async def authorization_url(self, login: Login) -> str:
        """Where to send the browser. Raises ProviderUnavailable."""
        endpoint = (await self._discovered())["authorization_endpoint"]
        query = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self.provider.scopes),
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": challenge_of(login.verifier),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def claims(self, login: Login, *, code: str, issuer: str | None) -> dict[str, Any]:
        """What the provider says of the person who came back with `code`, and `issuer` on the way (RFC 9207).

        Raises ProviderRefused, ProviderUnavailable.
        """
        metadata = await self._discovered()
        announced = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer not in ({self.provider.issuer} if announced else {self.provider.issuer, None}):
            raise ProviderRefused("Another provider has answered than the one that was asked.")
        tokens = await self._exchange(metadata, login, code)
        claims = await self._verified(tokens, nonce=login.nonce)
        if (endpoint := metadata.get("userinfo_endpoint")) and isinstance(tokens.get("access_token"), str):
            more = await self._userinfo(endpoint, tokens["access_token"])
            if more.get("sub") != claims["sub"]:
                raise self._odd("its userinfo is of somebody else")
            claims = {**more, **claims}
        return claims

    async def _exchange(self, metadata: Mapping[str, Any], login: Login, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": login.verifier,
        }
        secret, auth = self.provider.client_secret, None
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is not None and "client_secret_basic" in methods:
            # Each is form-encoded first (RFC 6749, 2.3.1).
            quoted = [urlencode({"": each})[1:] for each in (self.provider.client_id, secret.get_secret_value())]
            auth = httpx.BasicAuth(*quoted)
        else:
            form["client_id"] = self.provider.client_id
            if secret is not None:
                form["client_secret"] = secret.get_secret_value()
        status, answer = await self._call("POST", metadata["token_endpoint"], data=form, auth=auth)
        if status in (400, 401):
            # `invalid_grant` is the browser's fault, all else is ours or the provider's.
            if answer.get("error") == "invalid_grant":
                raise ProviderRefused("The provider does not know this code any more; begin again at /auth/login.")
            raise self._odd(f"it does not accept us: {harmless(str(answer.get('error')))}")
        if status != 200:
            raise self._odd(f"its token endpoint answers {status}")
        return answer

    async def _verified(self, tokens: Mapping[str, Any], *, nonce: str) -> dict[str, Any]:
        token = tokens.get("id_token")
        try:
            if not isinstance(token, str):
                raise jwt.NotGood("there is none")
            header = jwt.header_of(token)
            algorithm = header.get("alg")
            if algorithm not in _ALGORITHMS:
                raise jwt.NotGood(f"it is signed with {algorithm!r}")
            claims = jwt.verify(
                token,
                jwt.key_of(await self._key(header.get("kid"), _ALGORITHMS[algorithm]), algorithm),
                algorithms=[algorithm],
                audience=self.provider.client_id,
                issuer=self.provider.issuer,
                required=["sub", "nonce"],
                access_token=tokens.get("access_token"),
            )
            several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
            if claims.get("azp", None if several else self.provider.client_id) != self.provider.client_id:
                raise jwt.NotGood("it is for somebody else")
            if claims["nonce"] != nonce:
                raise jwt.NotGood("it is of another sign-in")
        except jwt.NotGood as error:
            raise self._odd(f"its ID token is not good: {error}") from error
        return claims

    async def _userinfo(self, endpoint: str, access_token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}"}
        status, answer = await self._call("GET", self._checked(endpoint), headers=headers)
        if status != 200:
            raise self._odd(f"its userinfo answers {status}")
        return answer

    async def _key(self, kid: object, kind: str) -> dict[str, Any]:
        """The one key that it can be. Raises NotGood, ProviderUnavailable."""
        for age in (_KNOWN_FOR, 0.0):  # the token comes from the provider itself: a key that is not known is a new one
            if time.monotonic() - self._keys_at > age:
                await self._read_keys()
            found = [key for key in self._keys if key.get("kty") == kind and key.get("use", "sig") == "sig"]
            found = [key for key in found if kid is None or key.get("kid") == kid]
            if len(found) == 1:
                return found[0]
        raise jwt.NotGood("it is signed with a key that the provider does not publish")

    async def _read_keys(self) -> None:
        url = (await self._discovered())["jwks_uri"]
        status, answer = await self._call("GET", url)
        keys = answer.get("keys")
        if status != 200 or not isinstance(keys, list):
            raise self._odd("its keys cannot be read")
        self._keys = [key for key in keys if isinstance(key, dict)]
        self._keys_at = time.monotonic()

    async def _discovered(self) -> Mapping[str, Any]:
        if time.monotonic() - self._metadata_at > _KNOWN_FOR:
            url = f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, answer = await self._call("GET", url)
            if status != 200 or answer.get("issuer") != self.provider.issuer:
                raise self._odd("its discovery document is missing, or names another issuer")
            for name in _ENDPOINTS:
                self._checked(answer.get(name))
            self._metadata, self._metadata_at = answer, time.monotonic()
        return self._metadata

    async def _call(self, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """The status, and the JSON object of the answer (empty if it is none)."""
        try:
            async with self._http.stream(method, url, **options) as answer:
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > _LONGEST:
                        raise self._odd("its answer is too long")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._odd(f"it cannot be reached: {type(error).__name__}") from error
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            parsed = {}
        return answer.status_code, parsed if isinstance(parsed, dict) else {}

    def _checked(self, url: object) -> str:
        """An address that the provider names. Only one that is itself on loopback may name an address there: else it
        could have us call what is meant for nobody but us."""
        try:
            safe = safe_url(str(url))
        except ValueError as error:
            raise self._odd(f"an address in its discovery document {error}") from error
        if urlsplit(self.provider.issuer).scheme == "https" != urlsplit(safe).scheme:
            raise self._odd("an address in its discovery document has to be https")
        return safe

    def _odd(self, what: str) -> ProviderUnavailable:
        log.warning("oidc.provider_odd", provider=self.provider.name, reason=what)
        name = self.provider.name
        return ProviderUnavailable(f"The identity provider {name} is of no use at the moment: {what}.", provider=name)
