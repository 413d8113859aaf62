"""Sealing and signing under one root key."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secrets import Tampered, Vault

VAULT = Vault(bytes(32))


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_and_shows_nothing(value: bytes) -> None:
    sealed = VAULT.seal(value, purpose="env")
    assert VAULT.open(sealed, purpose="env") == value
    assert len(sealed) == len(value) + 28
    assert VAULT.seal(value, purpose="env") != sealed


@pytest.mark.parametrize("size", [0, 1, 11, 12, 27, 28, 100])
def test_what_was_not_sealed_does_not_open(size: int) -> None:
    with pytest.raises(Tampered):
        VAULT.open(os.urandom(size), purpose="env")


def test_another_purpose_another_root_or_one_bit_and_it_does_not_open() -> None:
    sealed = VAULT.seal(b"secret", purpose="env")
    flipped = bytearray(sealed)
    flipped[-1] ^= 1
    for vault, value, purpose in (
        (VAULT, sealed, "pull"),
        (Vault(bytes(31) + b"\1"), sealed, "env"),
        (VAULT, bytes(flipped), "env"),
    ):
        with pytest.raises(Tampered):
            vault.open(value, purpose=purpose)


def test_signatures() -> None:
    signature = VAULT.sign("sha256:abc 123", purpose="pull")
    assert VAULT.verify("sha256:abc 123", signature, purpose="pull")
    for message, given_, purpose in (
        ("sha256:abc 124", signature, "pull"),
        ("sha256:abc 123", signature, "other"),
        ("sha256:abc 123", signature.upper(), "pull"),
        ("sha256:abc 123", "", "pull"),
        ("sha256:abc 123", "é", "pull"),
    ):
        assert not VAULT.verify(message, given_, purpose=purpose)
