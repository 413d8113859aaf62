"""Passwords: argon2id, hashed in threads of their own, few at a time, so that a flood of sign-ins starves nobody.

Whether a user is not there, has no password or gave a wrong one costs the same: one hash is always computed.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Unavailable

T = TypeVar("T")

# OWASP's minimum (19 MiB, two passes): 20 ms of one core. More would mostly help whoever floods us with sign-ins.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_THREADS = 2
_LONGEST_QUEUE = 100  # about a second's work; whoever comes then is told to come back


def generate_password() -> str:
    """144 random bits, easy to paste."""
    return secrets.token_urlsafe(18)


class Passwords:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        # Of a password that nobody knows; what there is no hash for is checked against it.
        self._decoy = _HASHER.hash(secrets.token_urlsafe(32))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        return await self._run(lambda: _HASHER.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether `password` is the one behind `password_hash`; None never matches, and takes as long."""
        matches = await self._run(lambda: _matches(password_hash or self._decoy, password))
        return matches and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was made with weaker parameters than ours of today."""
        return _HASHER.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _LONGEST_QUEUE:
            raise Unavailable("Too many sign-ins are waiting; try again in a moment.", retry_after=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
