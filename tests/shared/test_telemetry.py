"""What must not be in a log is blanked, and blanking costs no more than the text is long."""

import time

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

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
    for harmless in ("/things/eyJ", "/things/moor_x_short", "eyJa.b"):
        assert blanked(harmless) == harmless


def test_blanking_is_linear() -> None:
    size = 600_000
    for part in ("eyJ", "eyJ.", "eyJa.eyJ", "moor_", "moor_a", "moor_" + "a" * 63, "moor_a_b"):
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
