"""Signing in with a real OpenID provider: who becomes whom, what the claims give, and every way to be refused."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from sqlalchemy import select, update

from services.gateway.oidc import login as logins
from services.gateway.sign_ins.domain import challenge_of
from services.gateway.users.commands import delete_user
from services.registry import consumer
from shared.schema import Identity, User
from tests.gateway.four import running_four
from tests.gateway.world import Gateway, running_gateway, settings_of, until_blocked
from tests.servers.oidc import Browser, OpenIdProvider, running

BACK = "http://moorage.test"
LOGIN, CALLBACK, TOKEN = "/api/v1/auth/login", "/api/v1/auth/callback", "/api/v1/auth/token"
PROGRAM = "http://127.0.0.1:5173/signed-in?from=cli"
VERIFIER = secrets.token_urlsafe(48)
ROLES = {"ml-*-editors": "*:edit", "ml-risk-leads": "risk:manage", "platform-team": "admin"}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OpenIdProvider]:
    async with running(tmp_path / "oidc", callback=f"{BACK}{CALLBACK}") as found:
        yield found


def settings(provider: OpenIdProvider, **more: Any) -> dict[str, Any]:
    known = {"name": "corp", "title": "Corp", "issuer": provider.issuer, "client_id": "moorage"}
    return known | {"client_secret": provider.secret, "roles": ROLES} | more


@dataclass
class World:
    """A gateway that knows the provider, and one browser."""

    gateway: Gateway
    provider: OpenIdProvider
    outside: httpx.AsyncClient

    @property
    def browser(self) -> Browser:
        return Browser(self.outside, back=BACK)

    async def begin(self, **query: str) -> httpx.Response:
        return await self.gateway.http.get(LOGIN, params=query)

    async def come_back(self, url: str) -> httpx.Response:
        return await self.gateway.http.get(url.removeprefix(BACK))

    async def sign_in(self, subject: str, **query: str) -> httpx.Response:
        """The answer to the browser that has come back."""
        self.outside.cookies.clear()  # another person, as far as the provider knows
        begun = await self.begin(**query)
        assert begun.status_code == 302, begun.text
        return await self.come_back(await self.browser.signed_in(begun.headers["location"], subject))

    async def me(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        document: dict[str, Any] = (await self.gateway.http.get("/api/v1/me", headers=headers)).json()
        return document


@asynccontextmanager
async def world(
    environment: Mapping[str, str], folder: Path, provider: OpenIdProvider, *providers: dict[str, Any]
) -> AsyncIterator[World]:
    given = settings_of(environment, folder) | {"MOORAGE_OIDC_PROVIDERS": list(providers) or [settings(provider)]}
    async with running_gateway(given) as gateway, httpx.AsyncClient() as outside:
        yield World(gateway, provider, outside)


@pytest.fixture
async def one(environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider) -> AsyncIterator[World]:
    async with world(environment, tmp_path, provider) as found:
        yield found


async def identities(gateway: Gateway) -> dict[str, str]:
    async with gateway.deployer.sessions() as session:
        return {row.subject: row.user_id for row in (await session.execute(select(Identity))).scalars()}


async def test_a_new_person_becomes_a_user_and_is_the_same_user_the_next_time(one: World) -> None:
    one.provider.say("4711", preferred_username="Ana.Pereira", name="Ana", email="ana@corp.test", email_verified=True)
    listed = (await one.gateway.http.get("/api/v1/auth/providers")).json()["items"]
    assert listed == [{"name": "corp", "title": "Corp", "login_url": f"{LOGIN}?provider=corp"}]
    tokens = await one.sign_in("4711")
    assert tokens.headers["cache-control"] == "no-store"
    me = await one.me(tokens)
    assert (me["user"], me["display_name"], me["email"], me["admin"]) == (
        "ana.pereira", "Ana", "ana@corp.test", False,
    )  # fmt: skip
    one.provider.say("4711", preferred_username="somebody-else", name="Ana P.")
    assert (await one.me(await one.sign_in("4711")))["user"] == "ana.pereira"
    assert await identities(one.gateway) == {"4711": "ana.pereira"}
    renewed = {"grant_type": "refresh_token", "refresh_token": tokens.json()["refresh_token"]}
    assert (await one.gateway.http.post(TOKEN, data=renewed)).status_code == 200
    password = {"grant_type": "password", "username": "ana.pereira", "password": ""}
    assert (await one.gateway.http.post(TOKEN, data=password)).status_code == 400


async def test_several_providers_at_once_also_public_clients_and_other_algorithms(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    public = settings(provider, name="public", client_id="public", client_secret=None)
    async with world(environment, tmp_path, provider, settings(provider), public) as two:
        provider.say("ana", preferred_username="ana")
        assert (await two.begin()).status_code == 404  # which?
        assert (await two.begin(provider="other")).status_code == 404
        for name in ("corp", "public"):
            assert (await two.me(await two.sign_in("ana", provider=name)))["user"] == "ana"


async def test_what_one_provider_sends_is_not_taken_for_anothers(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    """Mix-up: were both to come back to one address, an evil provider could have us bring it another's code."""
    public = settings(provider, name="public", client_id="public", client_secret=None)
    async with world(environment, tmp_path, provider, settings(provider), public) as two:
        provider.say("ana", preferred_username="ana")
        for name in ("corp", "public"):
            begun = urlsplit((await two.begin(provider=name)).headers["location"])
            assert parse_qs(begun.query)["redirect_uri"] == [f"{BACK}{CALLBACK}/{name}"]
        back = await two.browser.signed_in((await two.begin(provider="corp")).headers["location"], "ana")
        path = f"{CALLBACK}/corp"
        cookies = "; ".join(f"{each.name}={each.value}" for each in two.gateway.http.cookies.jar)
        for elsewhere in (f"{CALLBACK}/public", f"{CALLBACK}/none", CALLBACK):
            answer = await two.gateway.http.get(
                back.removeprefix(BACK).replace(path, elsewhere), headers={"Cookie": cookies}
            )
            assert (answer.status_code, answer.json()["code"]) in ((400, "login_expired"), (404, "not_found"))
        assert (await two.me(await two.come_back(back)))["user"] == "ana"


async def test_a_program_gets_a_code_that_fetches_the_tokens_once(one: World) -> None:
    one.provider.say("ana", preferred_username="ana")
    query = {"redirect_uri": PROGRAM, "state": "of the program", "code_challenge": challenge_of(VERIFIER)}

    async def code() -> str:
        back = await one.sign_in("ana", **query)
        assert back.status_code == 302
        assert back.headers["location"].startswith(f"{PROGRAM}&code=")
        found = parse_qs(urlsplit(back.headers["location"]).query)
        assert (found["from"], found["state"]) == (["cli"], ["of the program"])
        return found["code"][0]

    async def exchange(given: str, **other: str) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": given, "code_verifier": VERIFIER, "redirect_uri": PROGRAM}
        return await one.gateway.http.post(TOKEN, data=form | other)

    good = await code()
    tokens = await exchange(good)
    assert (await one.me(tokens))["user"] == "ana"
    assert tokens.json()["refresh_token"]
    assert (await exchange(good)).json()["error"] == "invalid_grant"
    for wrong in ({"code_verifier": "x" * 43}, {"code_verifier": "!" * 43}, {"redirect_uri": f"{PROGRAM}x"}):
        given = await code()
        assert (await exchange(given, **wrong)).status_code == 400
        assert (await exchange(given)).status_code == 400  # whoever had it has had their try
    entries = await audit(one.gateway, action="finish_login")
    assert good not in str(entries)
    assert {each["user"] for each in entries} == {"ana"}


@pytest.mark.parametrize(
    "uri",
    ["https://evil.test/", "http://127.0.0.1.evil.test/", "javascript:alert(1)", "//evil.test", "http://moorage.test@evil/",
     "http://127.0.0.1:99999/", "http://[::1", "https://app.corp.test.evil/", "http://app.corp.test/", "custom:/x", "",
     "http://moorage.test/deployment/evil/", "http://moorage.test./x",
     "http://MOORAGE.test:80/deployment/evil/", "http://127.0.0.1:80/deployment/evil/", "http://localhost/predict/evil"],
)  # fmt: skip
async def test_codes_are_sent_to_nobody_else(environment: dict[str, str], tmp_path: Path, uri: str) -> None:
    nobody = OpenIdProvider(tmp_path, 1, "")
    # The platform's own address, where a model may answer, is none of them even if somebody has named it.
    given = environment | {"MOORAGE_WEB_ORIGINS": ["https://app.corp.test", BACK]}
    async with world(given, tmp_path, nobody) as one:
        answer = await one.begin(redirect_uri=uri, code_challenge=challenge_of(VERIFIER))
        assert answer.status_code == 422, answer.text
        lacking = await one.begin(redirect_uri="https://app.corp.test/back")
        assert (lacking.status_code, lacking.json()["errors"][0]["pointer"]) == (422, "query/code_challenge")


async def test_claims_make_memberships_and_administrators(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_four(
        environment, tmp_path, monkeypatch, of_gateway={"MOORAGE_OIDC_PROVIDERS": [settings(provider)]}
    ) as four, httpx.AsyncClient() as outside:  # fmt: skip
        one = World(four.gateway, provider, outside)
        await four.call("registry", "POST", "/groups", {"id": "fraud"})

        async def groups(*claimed: str) -> dict[str, str]:
            provider.say("ana", preferred_username="ana", groups=list(claimed))
            tokens = await one.sign_in("ana")

            async def settled() -> dict[str, str]:
                members = {}
                for group in ("risk", "fraud"):
                    for each in (await four.call("registry", "GET", f"/groups/{group}/members")).json()["items"]:
                        if each["user"] == "ana":
                            members[group] = f"{each['permission']} {each['source']}"
                return members

            await four.claims_followed()
            found = await settled()
            me = await one.me(tokens)
            return found | ({"admin": "yes"} if me["admin"] else {})

        assert await groups("ml-risk-editors", "ml-nowhere-editors", "others") == {"risk": "edit corp"}
        assert await groups("ml-risk-editors", "ml-risk-leads", "ml-fraud-editors") == {
            "risk": "manage corp",
            "fraud": "edit corp",
        }
        refused = await four.call("registry", "DELETE", "/groups/fraud/members/ana")
        assert (refused.status_code, refused.json()["code"]) == (409, "managed_elsewhere")
        put = await four.call("registry", "PUT", "/groups/fraud/members/ana", {"permission": "read"})
        assert put.json()["source"] is None  # from now on what a manager says
        assert await groups("platform-team") == {"fraud": "read None", "admin": "yes"}
        assert await groups() == {"fraud": "read None"}
        personal = (await four.call("registry", "GET", "/groups/ana/members/ana")).json()
        assert (personal["permission"], personal["source"]) == ("manage", None)


async def test_a_group_that_is_made_later_takes_those_who_were_announced(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_four(
        environment, tmp_path, monkeypatch, of_gateway={"MOORAGE_OIDC_PROVIDERS": [settings(provider)]}
    ) as four, httpx.AsyncClient() as outside:  # fmt: skip
        provider.say("ana", preferred_username="ana", groups=["ml-fraud-editors"])
        await World(four.gateway, provider, outside).sign_in("ana")
        await four.claims_followed()
        await four.call("registry", "POST", "/groups", {"id": "fraud"})
        await consumer.follow_all_claims(four.registry.core)
        member = (await four.call("registry", "GET", "/groups/fraud/members/ana")).json()
        assert (member["permission"], member["source"]) == ("edit", "corp")


async def test_the_last_administrator_stays_one_whatever_the_claims_say(one: World) -> None:
    one.provider.say("ana", preferred_username="ana", groups=["platform-team"])
    assert (await one.me(await one.sign_in("ana")))["admin"] is True
    one.provider.say("ana", preferred_username="ana", groups=[])
    assert (await one.me(await one.sign_in("ana")))["admin"] is True
    await one.gateway.people.add("root", admin=True)
    assert (await one.me(await one.sign_in("ana")))["admin"] is False


async def test_nobody_takes_over_an_account_by_its_name_or_an_unverified_address(one: World) -> None:
    async with one.gateway.deployer.sessions.begin() as session:
        session.add(User(id="admin", admin=True, email="admin@corp.test"))
    one.provider.say("evil", preferred_username="admin", email="admin@corp.test", email_verified=True)
    me = await one.me(await one.sign_in("evil"))
    assert me["user"].startswith("admin-")
    assert (me["admin"], me["email"]) == (False, None)
    one.provider.say("odd", preferred_username="../../Ünïcode <b>", email="x@y.test", email_verified=False)
    me = await one.me(await one.sign_in("odd"))
    assert (me["user"], me["email"]) == ("n-code-b", None)


async def test_nobody_takes_over_the_name_of_one_who_was_removed(one: World) -> None:
    """Their personal group, and what they made, still bear it."""
    root = await one.gateway.people.add("root", admin=True)
    for subject in ("1", "2"):
        one.provider.say(subject, preferred_username="ana")
    assert (await one.me(await one.sign_in("1")))["user"] == "ana"
    assert (await one.gateway.http.delete("/api/v1/users/ana", headers=root)).status_code == 204
    for subject in ("1", "2"):
        assert (await one.me(await one.sign_in(subject)))["user"].startswith("ana-")
    assert (await one.gateway.http.post("/api/v1/users", json={"user": "ana"}, headers=root)).status_code == 201


async def test_a_name_is_not_taken_over_while_its_user_is_being_removed(one: World) -> None:
    one.provider.say("1", preferred_username="ana")
    await one.gateway.people.add("ana")
    back = await one.browser.signed_in((await one.begin()).headers["location"], "1")
    async with one.gateway.deployer.sessions.begin() as session:
        await delete_user(session, await session.get_one(User, "ana"))
        coming = asyncio.create_task(one.come_back(back))
        await until_blocked(one.gateway)
    assert (await one.me(await coming))["user"].startswith("ana-")


async def test_nobody_waits_with_an_address_for_its_owner_to_come(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    """One that is not trusted may say anything of an address. What a trusted one says must not lead to its user."""
    public = settings(provider, name="public", client_id="public", client_secret=None)
    trusting = settings(provider, trusts_email=True)
    async with world(environment, tmp_path, provider, trusting, public) as two:
        provider.say("evil", preferred_username="evil", email="ana@corp.test", email_verified=True)
        assert (await two.me(await two.sign_in("evil", provider="public")))["email"] == "ana@corp.test"
        provider.say("ana", preferred_username="ana", email="ana@corp.test", email_verified=True)
        assert (await two.me(await two.sign_in("ana", provider="corp")))["user"] == "ana"
        async with two.gateway.deployer.sessions.begin() as session:
            session.add_all([User(id="one", email="bo@corp.test"), User(id="two", email="BO@corp.test")])
        provider.say("bo", preferred_username="bo", email="bo@corp.test", email_verified=True)
        assert (await two.me(await two.sign_in("bo", provider="corp")))["user"] == "bo"  # which of them nobody knows


async def test_an_existing_user_is_known_by_a_verified_address_where_that_is_trusted(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    async with world(environment, tmp_path, provider, settings(provider, trusts_email=True)) as one:
        async with one.gateway.deployer.sessions.begin() as session:
            session.add(User(id="ana", email="Ana@corp.test"))
        provider.say("1", preferred_username="other", email="ana@CORP.test", email_verified=False)
        assert (await one.me(await one.sign_in("1")))["user"] == "other"
        provider.say("2", preferred_username="another", email="ana@CORP.test", email_verified=True)
        assert (await one.me(await one.sign_in("2")))["user"] == "ana"


async def test_who_is_refused_and_that_it_is_on_record(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    strict = settings(provider, required_claims={"groups": "staff"})
    async with world(environment, tmp_path, provider, strict) as one:
        provider.say("ana", preferred_username="ana", groups=["guests"])
        refused = await one.sign_in("ana")
        assert (refused.status_code, refused.json()["code"]) == (403, "provider_refused")
        assert await identities(one.gateway) == {}
        provider.say("ana", preferred_username="ana", groups=["staff"])
        assert (await one.me(await one.sign_in("ana")))["user"] == "ana"
        async with one.gateway.deployer.sessions.begin() as session:
            await session.execute(update(User).where(User.id == "ana").values(disabled=True))
        assert (await one.sign_in("ana")).status_code == 403

        one.outside.cookies.clear()
        changed_mind = await one.browser.aborted((await one.begin()).headers["location"])
        answer = await one.come_back(changed_mind)
        assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")
        query = {"redirect_uri": PROGRAM, "state": "s", "code_challenge": challenge_of(VERIFIER)}
        told = await one.come_back(await one.browser.aborted((await one.begin(**query)).headers["location"]))
        assert dict(parse_qsl(urlsplit(told.headers["location"]).query))["error"] == "access_denied"
        denied = [each["code"] for each in await audit(one.gateway, outcome="denied")]
        assert denied == ["provider_refused"] * 4


async def test_what_another_browser_has_begun_signs_in_nobody(one: World) -> None:
    """An attacker signs in, and has a victim's browser finish it: the victim would work in the attacker's account."""
    one.provider.say("evil", preferred_username="evil")
    begun = await one.begin()
    back = await one.browser.signed_in(begun.headers["location"], "evil")
    mine = dict(one.gateway.http.cookies)
    [(name, sealed)] = mine.items()
    for theirs in ({}, {name: "x"}, {name: sealed[:-4] + "AAAA"}, {"moorage_login_other": sealed}):
        one.gateway.http.cookies = httpx.Cookies(theirs)
        answer = await one.come_back(back)
        assert (answer.status_code, answer.json()["code"]) == (400, "login_expired")
    other = await one.begin()
    state = parse_qs(urlsplit(other.headers["location"]).query)["state"][0]
    crossed = urlencode(dict(parse_qsl(urlsplit(back).query)) | {"state": state})
    answer = await one.come_back(f"{CALLBACK}/corp?{crossed}")  # a code of another sign-in: PKCE
    assert answer.json()["code"] == "provider_refused"
    one.gateway.http.cookies = httpx.Cookies(mine)
    assert (await one.me(await one.come_back(back)))["user"] == "evil"
    again = await one.come_back(back)  # the cookie was kept, against our word: the code is good once
    assert (again.status_code, again.json()["code"]) == (403, "provider_refused")


async def test_a_login_waits_for_ten_minutes(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one.provider.say("ana", preferred_username="ana")
    back = await one.browser.signed_in((await one.begin()).headers["location"], "ana")
    later = logins.time.time() + 601
    monkeypatch.setattr(logins.time, "time", lambda: later)
    assert (await one.come_back(back)).json()["code"] == "login_expired"


async def test_keys_rotate_and_an_outage_is_told(one: World) -> None:
    one.provider.say("ana", preferred_username="ana")
    assert (await one.me(await one.sign_in("ana")))["user"] == "ana"
    begun = (await one.begin()).headers["location"]
    back = await one.browser.signed_in(begun, "ana")
    one.provider.stop()
    away = await one.come_back(back)
    assert (away.status_code, away.json()["code"]) == (503, "provider_unavailable")
    assert int(away.headers["retry-after"]) >= 1
    await one.provider.start()
    assert (await one.me(await one.sign_in("ana")))["user"] == "ana"


async def test_a_sign_in_ends_when_the_claims_are_to_be_read_again(
    environment: dict[str, str], tmp_path: Path, provider: OpenIdProvider
) -> None:
    async with world(environment, tmp_path, provider, settings(provider, sign_in_seconds=300)) as one:
        provider.say("ana", preferred_username="ana")
        tokens = (await one.sign_in("ana")).json()
        assert 290 <= tokens["expires_in"] <= 300
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        renewed = (await one.gateway.http.post(TOKEN, data=form)).json()
        assert renewed["expires_in"] <= 300
        headers = {"Authorization": f"Bearer {renewed['access_token']}"}
        [shown] = (await one.gateway.http.get("/api/v1/sign-ins", headers=headers)).json()["items"]
        assert (shown["method"], shown["ends_at"]) == ("corp", shown["expires_at"])


async def test_trying_codes_is_slowed_down(one: World) -> None:
    begun = await one.begin()
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    answers = [
        await one.gateway.http.get(f"{CALLBACK}/corp", params={"state": state, "code": f"c{n}"}) for n in range(12)
    ]
    assert [each.status_code for each in answers] == [403] * 10 + [429] * 2


async def audit(gateway: Gateway, **query: str) -> list[dict[str, Any]]:
    root = await gateway.people.add(f"root-{secrets.token_hex(4)}", admin=True)
    items: list[dict[str, Any]] = (await gateway.http.get("/api/v1/audit", params=query, headers=root)).json()["items"]
    return items
