"""Personal access tokens: what they look like, and how far they reach. Pure; what is kept of them is in shared.schema.

`moorpat_`, 43 characters with 256 random bits, 6 with their CRC-32: a scanner of leaked secrets knows one by its looks,
and a mistyped or made-up one is refused without a look into the database. The secrets of service accounts look alike,
but for their prefix.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIX = "moorpat_"
SECRET_PREFIX = "moorsec_"  # noqa: S105  # what all of them begin with
ADMIN = "admin"
ALL_GROUPS = "*"
SCOPE = r"^(admin|(\*|[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?):(read|edit|manage))$"

_DIGITS = string.digits + string.ascii_letters
_RANDOM, _CHECK = 43, 6
_TOKEN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


def new_token(prefix: str = PREFIX) -> str:
    body = _base62(secrets.randbits(256), _RANDOM)
    return prefix + body + _checksum(body)


def is_token(text: str) -> bool:
    """Whether it looks like one of ours, checksum included."""
    if not _TOKEN.fullmatch(text):
        return False
    body, check = text[len(PREFIX) : -_CHECK], text[-_CHECK:]
    return check == _checksum(body)


def sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True)
class Reach:
    """What a token's scopes leave of its user's rights: never more than the user has at that moment."""

    admin: bool
    groups: Mapping[str, str]  # group, or ALL_GROUPS → permission

    @classmethod
    def of(cls, scopes: Iterable[str]) -> "Reach":
        """Of scopes such as `risk:edit`, `*:read`, `admin`; of two on one group the last counts."""
        pairs = [scope.partition(":") for scope in scopes]
        return cls(
            admin=any(group == ADMIN and not permission for group, _, permission in pairs),
            groups={group: permission for group, _, permission in pairs if permission},
        )

    def permission(self, group: str) -> str | None:
        return self.groups.get(group) or self.groups.get(ALL_GROUPS)

    @property
    def changes_nothing(self) -> bool:
        return not self.admin and set(self.groups.values()) <= {"read"}


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    found = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        found.append(_DIGITS[digit])
    return "".join(reversed(found))
