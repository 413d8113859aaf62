"""Thousands of Authorization headers that nobody should send, to all four services: each is refused, none is a 5xx."""

import asyncio
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.access_tokens import new_token
from tests.gateway.four import running_four

PATHS = {"gateway": "/me", "registry": "/groups", "deployer": "/deployments", "metrics": "/metrics"}
EACH = 600


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def hostile(good: str, chance: random.Random) -> Iterator[bytes]:
    """Bytes of headers, without end; `good` is a token that is let in."""
    header, claims, signature = good.split(".")
    kids: list[object] = ["../../etc/passwd", "' OR 1=1 --", "", None, 0, [], {}, "x" * 1500, "\x00", "\ud800"]
    while True:
        junk = bytes(chance.choice(range(1, 256)) for _ in range(chance.randrange(60))).replace(b"\n", b"").strip()
        yield chance.choice((b"Bearer ", b"bearer ", b"Basic ", b"Bearer", b"")) + junk.replace(b"\r", b"")
        yield f"Bearer {part({'alg': chance.choice(['none', 'None', 'HS256', 'RS256', '', None])})}.{claims}.".encode()
        yield f"Bearer {part({'alg': 'ES256', 'kid': chance.choice(kids)})}.{claims}.{signature}".encode()
        yield f"Bearer {header}.{part(chance.choice([[], 1, None, 'x', {'sub': 'root'}]))}.{signature}".encode()
        place = chance.randrange(len(header) + 1, len(good) - 2)
        yield f"Bearer {good[:place]}{'A' if good[place] != 'A' else 'B'}{good[place + 1 :]}".encode()
        yield b"Bearer " + good.encode() + chance.choice((b".", b"..", b"=", b" x", b"A" * 4000))
        yield f"Bearer {new_token()}".encode()
        yield f"Bearer {new_token()[: chance.randrange(60)]}{chance.choice(['', '_', 'é'])}".encode()


async def test_all_are_refused_and_none_is_a_mistake_of_ours(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_four(environment, tmp_path, monkeypatch) as four:
        good = four.root["Authorization"].removeprefix("Bearer ")
        headers = hostile(good, random.Random(7))  # the same ones each time

        async def status(service: str, header: bytes) -> int:
            url = f"/api/v1{PATHS[service]}"
            return (await four.services[service].get(url, headers={"Authorization": header})).status_code

        for service in PATHS:
            assert await status(service, f"Bearer {good}".encode()) == 200
            for _ in range(EACH // 100):
                sent = [next(headers) for _ in range(100)]
                answers = await asyncio.gather(*(status(service, header) for header in sent))
                assert {header for header, answer in zip(sent, answers, strict=True) if answer != 401} == set()
            assert await status(service, f"Bearer {good}".encode()) == 200
