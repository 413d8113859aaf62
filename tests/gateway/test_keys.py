"""Signing keys: made once, sealed, rotated with overlap."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select

from services.gateway.identity.domain import KEY_LIFE, KeyAge, is_key_due, signing_key
from services.gateway.identity.keys import PURPOSE, SigningKeys
from shared.database import create_engine, create_sessions
from shared.errors import Unavailable
from shared.schema import SigningKey
from shared.secrets import Vault
from shared.tokens import Verifier

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROOT = os.urandom(32)


def key(kid: str, *, made: timedelta, retires: timedelta) -> KeyAge:
    return KeyAge(kid=kid, created_at=NOW + made, retires_at=NOW + retires)


def issued(keys: SigningKeys, *, now: datetime) -> str:
    return keys.access_token("ana", sign_in=uuid4(), now=now, until=now + timedelta(hours=1))


def test_a_new_key_is_due_before_the_old_one_retires() -> None:
    assert is_key_due([], now=NOW)
    assert is_key_due([key("old", made=-timedelta(83), retires=timedelta(6))], now=NOW)
    assert not is_key_due([key("old", made=-timedelta(80), retires=timedelta(8))], now=NOW)


def test_the_newest_settled_key_signs() -> None:
    old = key("old", made=-timedelta(days=85), retires=timedelta(days=5))
    fresh = key("fresh", made=-timedelta(seconds=1), retires=timedelta(days=90))
    retired = key("retired", made=-timedelta(days=99), retires=-timedelta(days=1))
    assert signing_key([old, fresh, retired], now=NOW) == old  # others have not read the fresh one yet
    assert signing_key([old, fresh], now=NOW + timedelta(seconds=5)) == fresh
    assert signing_key([fresh, retired], now=NOW) == fresh  # better than none
    assert signing_key([retired], now=NOW) is None


async def test_gateways_that_start_at_once_make_one_key(database_url: str) -> None:
    engine = create_engine(database_url, application="test", connections=8)
    sessions = create_sessions(engine)
    gateways = [SigningKeys(sessions, Vault(ROOT)) for _ in range(5)]
    with pytest.raises(Unavailable):
        issued(gateways[0], now=NOW)
    await asyncio.gather(*(each.refresh(now=NOW) for each in gateways))
    async with sessions() as session:
        rows = (await session.execute(select(SigningKey))).scalars().all()
    assert len(rows) == 1
    assert b"PRIVATE KEY" not in rows[0].private_sealed
    assert b"PRIVATE KEY" in Vault(ROOT).open(rows[0].private_sealed, purpose=PURPOSE)
    await engine.dispose()


async def test_rotation_keeps_living_tokens_good(database_url: str) -> None:
    engine = create_engine(database_url, application="test", connections=4)
    sessions = create_sessions(engine)
    keys = SigningKeys(sessions, Vault(ROOT))
    now = datetime.now(UTC)

    async def published() -> dict[str, dict[str, object]]:
        return {str(each["kid"]): each for each in await keys.published()}

    await keys.refresh(now=now)
    before = issued(keys, now=now)
    rotation = now + KEY_LIFE - timedelta(days=6)
    await keys.refresh(now=rotation)
    after = issued(keys, now=rotation + timedelta(seconds=10))
    assert len(await published()) == 2
    assert before.split(".")[0] != after.split(".")[0]  # the header names the key
    verifier = Verifier(published)
    assert (await verifier.verify(before)).user == "ana"

    await keys.refresh(now=now + KEY_LIFE + timedelta(days=3))
    assert len(await published()) == 1
    await engine.dispose()


async def test_a_key_under_another_secret_signs_nothing_and_goes_on_verifying(database_url: str) -> None:
    engine = create_engine(database_url, application="test", connections=4)
    sessions = create_sessions(engine)
    now = datetime.now(UTC)
    await SigningKeys(sessions, Vault(os.urandom(32))).refresh(now=now)
    keys = SigningKeys(sessions, Vault(ROOT))
    await keys.refresh(now=now)
    assert len(await keys.published()) == 2
    assert issued(keys, now=now)
    await engine.dispose()
