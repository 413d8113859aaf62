"""What is made of a provider that lies, errs or is another, beside the real one of test_oidc; and the pure rules."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jwt
from pydantic import ValidationError

from services.gateway.errors import ProviderRefused, ProviderUnavailable
from services.gateway.oidc.client import Client
from services.gateway.oidc.domain import Person, claim_at, harmless, person_of, redirects_to, roles_of, user_names
from services.gateway.oidc.login import Login
from services.gateway.oidc.settings import IdentityProvider

ISSUER = "https://id.test/realms/corp"
SECRET = "s+e cret"
PROVIDER = IdentityProvider(name="corp", issuer=ISSUER, client_id="us", client_secret=SECRET)  # type: ignore[arg-type]  # pydantic makes a SecretStr of it
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth?kc=1",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
    "userinfo_endpoint": f"{ISSUER}/me",
}


def pem(private: Any) -> str:
    text: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


RSA = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = pem(ec.generate_private_key(ec.SECP384R1()))
STRANGER = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
KEYS = [
    {**jwk.construct(RSA, "RS256").public_key().to_dict(), "kid": "r"},
    {**jwk.construct(EC, "ES384").public_key().to_dict(), "kid": "e", "use": "sig"},
]


class Provider:
    """Answers as it should; `wrong` replaces answers, `claims` and `sign` what it says of a person."""

    def __init__(self, login: Login) -> None:
        now = int(time.time())
        self.claims: dict[str, Any] = {
            "iss": ISSUER, "aud": "us", "sub": "ana", "nonce": login.nonce, "iat": now, "exp": now + 60,
        }  # fmt: skip
        self.sign: Callable[[dict[str, Any]], str] = signed
        self.wrong: dict[str, httpx.Response] = {}
        self.metadata: dict[str, Any] = dict(METADATA)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path.removeprefix("/realms/corp")
        if path in self.wrong:
            return self.wrong[path]
        answers = {
            "/.well-known/openid-configuration": lambda: self.metadata,
            "/keys": lambda: {"keys": KEYS},
            "/token": lambda: {"access_token": "at", "id_token": self.sign(self.claims)},
            "/me": lambda: {"sub": self.claims.get("sub"), "groups": ["staff"], "iss": "not from here"},
        }
        return httpx.Response(200, json=answers[path]())


def signed(claims: dict[str, Any], key: str = RSA, algorithm: str = "RS256", **header: Any) -> str:
    token: str = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "r", **header})
    return token


def part(value: object) -> str:
    return urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@pytest.fixture
def login() -> Login:
    return Login.begun("corp", None)


async def said(provider: Provider, login: Login, *, issuer: str | None = None) -> dict[str, Any]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as http:
        client = Client(PROVIDER, http, redirect_uri="https://us.test/back")
        return await client.claims(login, code="c", issuer=issuer)


async def test_what_is_asked_of_it_and_how(login: Login) -> None:
    provider = Provider(login)
    assert await said(provider, login) == provider.claims | {"groups": ["staff"]}
    exchange = next(each for each in provider.asked if each.url.path.endswith("/token"))
    assert exchange.headers["authorization"] == httpx.BasicAuth("us", "s%2Be+cret")._auth_header
    assert f"code_verifier={login.verifier}" in exchange.content.decode()
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as http:
        client = Client(PROVIDER, http, redirect_uri="https://us.test/back")
        url = httpx.URL(await client.authorization_url(login))
    assert (url.params["kc"], url.params["state"], url.params["code_challenge_method"]) == ("1", login.state, "S256")
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await said(provider, login)
    exchange = [each for each in provider.asked if each.url.path.endswith("/token")][-1]
    assert b"client_secret=s%2Be+cret" in exchange.content
    assert "authorization" not in exchange.headers


async def test_keys_of_other_kinds_and_without_an_id(login: Login) -> None:
    provider = Provider(login)
    provider.sign = lambda claims: signed(claims, EC, "ES384", kid="e")
    assert (await said(provider, login))["sub"] == "ana"
    provider.sign = lambda claims: str(jwt.encode(claims, RSA, algorithm="RS256"))  # it has one key that fits
    assert (await said(provider, login))["sub"] == "ana"


NOT_GOOD: dict[str, Callable[[Provider], object]] = {
    "unsigned": lambda p: setattr(p, "sign", lambda c: f"{part({'alg': 'none'})}.{part(c)}."),
    "HMAC with our secret": lambda p: setattr(p, "sign", lambda c: signed(c, SECRET, "HS256")),
    "HMAC with its public key": lambda p: setattr(p, "sign", lambda c: signed(c, part(KEYS[0]), "HS256")),
    "a stranger's key": lambda p: setattr(p, "sign", lambda c: signed(c, STRANGER)),
    "an unknown key": lambda p: setattr(p, "sign", lambda c: signed(c, STRANGER, kid="x")),
    "an odd key id": lambda p: setattr(p, "sign", lambda c: signed(c, kid=["r"])),
    "a key of another kind": lambda p: setattr(p, "sign", lambda c: signed(c, kid="e")),
    "no token": lambda p: setattr(p, "sign", lambda c: ""),
    "a list for a token": lambda p: p.wrong.update({"/token": httpx.Response(200, json={"id_token": []})}),
    "a huge token": lambda p: p.claims.update(x="x" * 20_000),
    "for others": lambda p: p.claims.update(aud="them"),
    "for others, too": lambda p: p.claims.update(aud=["us", "them"]),
    "of others": lambda p: p.claims.update(azp="them"),
    "another issuer's": lambda p: p.claims.update(iss="https://id.test/realms/evil"),
    "expired": lambda p: p.claims.update(exp=int(time.time()) - 60),
    "of nobody": lambda p: p.claims.pop("sub"),
    "of somebody who is a number": lambda p: p.claims.update(sub=7),
    "of another sign-in": lambda p: p.claims.update(nonce="other"),
    "of no sign-in": lambda p: p.claims.pop("nonce"),
    "of another access token": lambda p: p.claims.update(at_hash="AAAA"),
    "userinfo of another": lambda p: p.wrong.update({"/me": httpx.Response(200, json={"sub": "root"})}),
    "no userinfo": lambda p: p.wrong.update({"/me": httpx.Response(401)}),
    "a page for an answer": lambda p: p.wrong.update({"/token": httpx.Response(200, text="<html>")}),
    "a redirect": lambda p: p.wrong.update({"/token": httpx.Response(302, headers={"Location": "https://evil.test/"})}),
    "a failure": lambda p: p.wrong.update({"/token": httpx.Response(500)}),
    "us not known": lambda p: p.wrong.update({"/token": httpx.Response(401, json={"error": "invalid_client"})}),
    "an endless answer": lambda p: p.wrong.update({"/keys": httpx.Response(200, content=b"x" * (2**20 + 1))}),
    "no keys": lambda p: p.wrong.update({"/keys": httpx.Response(200, json={"keys": "none"})}),
    "odd keys": lambda p: p.wrong.update(
        {"/keys": httpx.Response(200, json={"keys": [1, {"kid": "r", "kty": "RSA"}]})}
    ),
    "another's discovery": lambda p: p.metadata.update(issuer="https://evil.test"),
    "a discovery without": lambda p: p.metadata.pop("jwks_uri"),
    "in the clear": lambda p: p.metadata.update(token_endpoint="http://id.test/token"),
    "userinfo in the clear": lambda p: p.metadata.update(userinfo_endpoint="http://id.test/me"),
    "an address of ours": lambda p: p.metadata.update(token_endpoint="http://127.0.0.1:9901/quitquitquit"),
    "keys at an address of ours": lambda p: p.metadata.update(jwks_uri="http://localhost:8080/keys"),
    "userinfo at an address of ours": lambda p: p.metadata.update(userinfo_endpoint="http://[::1]/me"),
}


@pytest.mark.parametrize("name", NOT_GOOD)
async def test_what_is_not_good_signs_in_nobody(login: Login, name: str) -> None:
    provider = Provider(login)
    NOT_GOOD[name](provider)
    with pytest.raises(ProviderUnavailable) as refused:
        await said(provider, login)
    assert "corp" in refused.value.detail
    assert SECRET not in refused.value.detail


async def test_another_provider_than_was_asked(login: Login) -> None:
    provider = Provider(login)
    with pytest.raises(ProviderRefused):
        await said(provider, login, issuer="https://id.test/realms/evil")
    assert (await said(provider, login, issuer=ISSUER))["sub"] == "ana"
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    with pytest.raises(ProviderRefused):
        await said(provider, login)
    provider.wrong["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    with pytest.raises(ProviderRefused):
        await said(provider, login, issuer=ISSUER)


async def test_one_that_cannot_be_reached(login: Login) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(away)) as http:
        with pytest.raises(ProviderUnavailable, match="ConnectTimeout"):
            await Client(PROVIDER, http, redirect_uri="x").authorization_url(login)


def test_roles() -> None:
    roles = {"ml-*-editors": "*:edit", "ml-risk-leads": "risk:manage", "*": "*:read", "ops": "admin"}
    assert roles_of([], roles) == ()
    assert roles_of(["ml-risk-leads"], roles) == ("ml-risk-leads:read", "risk:manage")
    assert roles_of(["ops", "ml-Fraud-editors"], {k: v for k, v in roles.items() if k != "*"}) == (
        "admin",
        "fraud:edit",
    )
    for odd in ("ml--editors", "ml-a b-editors", "ml-editors", f"ml-{'x' * 41}-editors", "ml-a:admin-editors"):
        assert roles_of([odd], {"ml-*-editors": "*:edit"}) == ()


def test_claims_within_claims_and_with_dots() -> None:
    claims = {"realm_access": {"roles": ["a"]}, "https://corp.test/groups": ["b"], "x": 1}
    assert claim_at(claims, "realm_access.roles") == ["a"]
    assert claim_at(claims, "https://corp.test/groups") == ["b"]
    assert [claim_at(claims, name) for name in ("x.y", "none", "realm_access.none", "")] == [None] * 4


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 256}, {"sub": "\x00"}])
def test_who_has_no_subject_is_nobody(claims: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused):
        person_of(claims, PROVIDER)


def test_odd_claims_are_as_good_as_none() -> None:
    claims = {"sub": "s1", "email": ["x"], "name": {"a": 1}, "preferred_username": 5, "groups": {"a": ["b"]}}
    person = person_of(claims | {"email_verified": "true"}, PROVIDER)
    assert person == Person(ISSUER, "s1", name="s1", display_name="", email=None, roles=())
    assert person_of({"sub": "s", "email": "a@b@c", "email_verified": True}, PROVIDER).email is None


def test_names_of_new_users() -> None:
    def names(name: str, subject: str = "s") -> list[str]:
        return list(user_names(Person(ISSUER, subject, name=name, display_name="", email=None, roles=())))

    assert names("Ana.Pereira@corp.test")[0] == "ana.pereira"
    assert names("日本")[0] == "user"
    assert names("x" * 80)[0].startswith("x" * 40)
    assert all(1 <= len(each) <= 63 for each in names("x" * 80))
    assert names("ana", "1")[1] != names("ana", "2")[1]


def test_where_codes_may_go() -> None:
    ours = ("https://app.test:8443", "https://page.test", "https://moorage.test")
    good = (
        "http://127.0.0.1:1/",
        "http://[::1]:5000/x",
        "http://localhost/",
        "https://page.test/x?y",
        "https://page.test:443/",
        "https://app.test:8443/",
    )
    bad = (
        "https://moorage.test/",
        "https://moorage.test:443/deployment/evil/",
        "https://moorage.test./",
        "http://localhost:443/",
        "https://app.test/",
        "http://moorage.test/",
        "https://moorage.test.evil/",
        "https://x@moorage.test/",
        "http:///x",
        "x",
    )
    bad = (*bad, "https://page.test/#x", "https://page.test:1x/")
    own = "https://moorage.test/"
    assert all(redirects_to(url, *ours, public_url=own) for url in good)
    assert not any(redirects_to(url, *ours, public_url=own) for url in bad)
    at_home = "http://127.0.0.1:8080"
    assert redirects_to("http://127.0.0.1:8081/", public_url=at_home)
    for host in ("127.0.0.1", "localhost", "[::1]", "127.0.0.2"):
        assert not redirects_to(f"http://{host}:8080/deployment/evil/", at_home, public_url=at_home)


def test_what_a_provider_says_is_words_only() -> None:
    assert harmless("no access (ask ana@corp.test)") == "no access (ask ana@corp.test)"
    assert harmless("<b onload='x'>\r\nSet-Cookie: \x1b[2J&#60;\u202e") == " b onload  x    Set-Cookie:   2J  60; "
    assert len(harmless("x" * 5000)) == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://id.test"}, {"issuer": "https://"}, {"issuer": "https://a:b@id.test"},
        {"issuer": "https://x/#y"}, {"sign_in_seconds": 1},
        {"name": "Corp"}, {"name": "password"}, {"scopes": ["email"]}, {"roles": {"a": "b"}},
        {"roles": {"a": "*:edit"}},
        {"roles": {"a*": "risk:edit"}}, {"roles": {"a*b*": "*:edit"}}, {"unknown": 1},
    ],
)  # fmt: skip
def test_settings_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IdentityProvider.model_validate({"name": "corp", "issuer": ISSUER, "client_id": "us"} | wrong)
