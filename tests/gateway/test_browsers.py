"""What browsers are told by each service: nothing runs, nothing is kept, and no page of others may call."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.four import Four, running_four
from tests.gateway.world import running_gateway, settings_of

ORIGIN = "https://ml.example.com"
PATHS = {"gateway": "/me", "registry": "/groups", "deployer": "/deployments", "metrics": "/metrics"}
TOLD = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


async def test_no_page_of_others_tries_passwords(environment: dict[str, str], tmp_path: Path) -> None:
    """Its visitors' browsers would send them, each from an address of its own. Host is what a proxy makes of it."""
    given: dict[str, Any] = settings_of(environment, tmp_path) | {"MOORAGE_WEB_ORIGINS": [ORIGIN]}
    async with running_gateway(given | {"MOORAGE_PUBLIC_URL": "https://moorage.test:443/"}) as gateway:
        form = {"grant_type": "password", "username": "ana", "password": "a guess"}

        async def tried(origin: str, host: str = "gateway:8080") -> str:
            headers = {"Origin": origin, "Host": host}
            answer = await gateway.http.post("/api/v1/auth/token", data=form, headers=headers)
            assert answer.status_code == 400, answer.text
            return str(answer.json()["error"])

        for own in (ORIGIN, "https://moorage.test"):
            assert await tried(own) == "invalid_grant"
        strangers = (
            "https://evil.test",
            "null",
            "",
            "http://moorage.test",
            "https://moorage.test:8443",
            f"{ORIGIN}.evil.test",
        )
        for stranger in strangers:
            assert await tried(stranger, host=stranger.rpartition("/")[2] or "x") == "invalid_request"


async def preflight(four: Four, service: str, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,if-match,idempotency-key",
    }
    return await four.services[service].options(f"/api/v1{PATHS[service]}", headers=headers)


async def test_every_answer_is_protected_and_no_other_page_may_call(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_four(environment, tmp_path, monkeypatch) as four:
        for service, path in PATHS.items():
            good = await four.call(service, "GET", path, by={**four.root, "Origin": ORIGIN})
            refused = await four.call(service, "GET", path, by={"Origin": ORIGIN})
            unknown = await four.call(service, "GET", "/nothing")
            assert [each.status_code for each in (good, refused, unknown)] == [200, 401, 404]
            for answer in (good, refused, unknown):
                assert {name: answer.headers.get_list(name) for name in TOLD} == {k: [v] for k, v in TOLD.items()}
                assert not any(name.startswith("access-control") for name in answer.headers)
                assert "strict-transport-security" not in answer.headers
            asked = await preflight(four, service, ORIGIN)
            assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (405, False)
        keys = await four.gateway.http.get("/.well-known/jwks.json")
        assert keys.headers.get_list("cache-control") == ["public, max-age=300"]
        page = await four.gateway.http.get("/docs")
        assert page.headers.get_list("content-security-policy") == [
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        ]


async def test_pages_that_are_named_may_call_without_cookies(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_WEB_ORIGINS", f'["{ORIGIN}"]')
    monkeypatch.setenv("MOORAGE_PUBLIC_URL", "https://moorage.test")
    public = {"MOORAGE_PUBLIC_URL": "https://moorage.test"}
    async with running_four(environment, tmp_path, monkeypatch, of_gateway=public) as four:
        for service, path in PATHS.items():
            asked = await preflight(four, service, ORIGIN)
            assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, ORIGIN)
            assert "PATCH" in asked.headers["access-control-allow-methods"]
            assert "if-match" in asked.headers["access-control-allow-headers"].lower()
            answer = await four.call(service, "GET", path, by={**four.root, "Origin": ORIGIN})
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            for stranger in ("https://evil.test", f"{ORIGIN}.evil.test", "null", "http://ml.example.com"):
                assert (await preflight(four, service, stranger)).status_code == 400
                answer = await four.call(service, "GET", path, by={**four.root, "Origin": stranger})
                assert "access-control-allow-origin" not in answer.headers
