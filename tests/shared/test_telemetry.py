"""What must not be in a log is blanked, and blanking costs no more than the text is long."""

import time

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from shared.access_tokens import PREFIX, SECRET_PREFIX, new_token
from shared.settings import ServiceSettings
from shared.telemetry import _blank_secrets
from tests.shared.http_app import create
from tests.support.services import serving

TOKEN = "moor_ward-7_" + "a" * 43
JWT = "eyJhbGciOi.eyJzdWIi.c2ln_-"


def blanked(text: str) -> str:
    return str(_blank_secrets(None, "info", {"path": text})["path"])


def test_tokens_are_blanked_wherever_they_are() -> None:
    assert blanked(f"/things/{TOKEN}/x") == "/things/***/x"
    assert blanked(f"/things?a={JWT}&b={JWT}") == "/things?a=***&b=***"
    assert _blank_secrets(None, "info", {"new_password": "x", "user": "ana"}) == {"new_password": "***", "user": "ana"}
    for prefix in (PREFIX, SECRET_PREFIX):
        assert blanked(f"/things/{new_token(prefix)}/x") == "/things/***/x"
    for harmless in ("/things/eyJ", "/things/moor_x_short", "eyJa.b", "a token, the secret", "basic", "http://a:1/b@c"):
        assert blanked(harmless) == harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/callback?state=s&code=abc&iss=x", "/callback?state=s&code=***&iss=x"),
        ("grant_type=password&username=ana&password=p%20w&x=1", "grant_type=password&username=ana&password=***&x=1"),
        ("client_secret=abc&refresh_token=def", "client_secret=***&refresh_token=***"),
        ('{"new_password": "p w", "user": "ana"}', '{"new_password": "***", "user": "ana"}'),
        ("{'access_token': 'abc'}", "{'access_token': '***'}"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer ***"),
        ("authorization: basic YW5hOnB3MTIz=", "authorization: basic ***"),
        ("no connection to postgresql://moorage:pw@db:5432/x", "no connection to postgresql://moorage:***@db:5432/x"),
        ("https://bucket.test/x?expires=1&signature=abc", "https://bucket.test/x?expires=1&signature=***"),
    ],
)
def test_what_stands_after_a_telling_name_is_blanked(text: str, shown: str) -> None:
    assert blanked(text) == shown


def test_what_is_within_a_value_is_blanked_too() -> None:
    event: dict[str, object] = {"headers": {"Cookie": "a=b", "x": [TOKEN, {"y": JWT}]}, "body": TOKEN.encode(), "n": 1}
    assert _blank_secrets(None, "info", event) == {"headers": {"Cookie": "***", "x": ["***", {"y": "***"}]},
                                                   "body": "***", "n": 1}  # fmt: skip


def test_blanking_is_linear() -> None:
    size = 600_000
    named = (
        "password=",
        "token='",
        "secret' : '",
        "basic ",
        "bearer  a",
        "://",
        "://a:",
        "://a:b",
        "&code=",
        "moorpat_a",
    )
    for part in ("eyJ", "eyJ.", "eyJa.eyJ", "moor_", "moor_a", "moor_" + "a" * 63, "moor_a_b", *named):
        text = part * (size // len(part)) + "!"
        started = time.perf_counter()
        blanked(text)
        assert time.perf_counter() - started < 2, part  # quadratic: minutes


async def test_a_long_path_is_not_logged_whole(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app: FastAPI = create(ServiceSettings())[1]
    client: httpx.AsyncClient
    async with serving(app) as client:
        with capture_logs() as lines:
            await client.get("/" + "x" * 60_000)
    assert [len(line["path"]) for line in lines if line["event"] == "request"] == [1000]
