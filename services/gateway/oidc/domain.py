"""Pure rules: what a provider's claims say of a person, and which user that becomes."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from services.gateway.errors import ProviderRefused
from services.gateway.identity.domain import is_user_name
from services.gateway.oidc.settings import IdentityProvider
from services.gateway.origins import WebOrigin, is_loopback
from shared.access_tokens import SCOPE

_LONGEST_NAME = 63
_LONGEST_SUBJECT = 255  # OpenID Connect Core, 2


@dataclass(frozen=True)
class Person:
    """`email` is None unless the provider has verified it; `roles` are sorted, such as `risk:edit`, `admin`."""

    issuer: str
    subject: str
    name: str
    display_name: str
    email: str | None
    roles: tuple[str, ...]


def person_of(claims: Mapping[str, Any], provider: IdentityProvider) -> Person:
    """Raises ProviderRefused for whom the settings do not admit."""
    for name, wanted in provider.required_claims.items():
        if wanted not in _texts(claim_at(claims, name)):
            raise ProviderRefused(
                f"{provider.name} knows you, but does not say that your {name} is {wanted}, as this platform requires.",
                provider=provider.name,
            )
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _LONGEST_SUBJECT or "\x00" in subject:
        raise ProviderRefused(f"{provider.name} does not say who you are.", provider=provider.name)
    email = _text(claims, "email")
    is_email = re.fullmatch(r"[^@\s\x00]+@[^@\s\x00]+", email) is not None and len(email) <= 320
    return Person(
        issuer=provider.issuer,
        subject=subject,
        name=_text(claims, provider.user_claim) or email.partition("@")[0] or subject,
        display_name=_text(claims, "name")[:200],
        email=email if is_email and claims.get("email_verified") is True else None,
        roles=roles_of(_texts(claim_at(claims, provider.groups_claim)), provider.roles),
    )


def user_names(person: Person) -> Iterator[str]:
    """Names for a new user, the most readable first. That of another user is never taken over: it gets a suffix."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", person.name.partition("@")[0].lower()).strip("._-") or "user"
    digest = hashlib.sha256(f"{person.issuer} {person.subject}".encode()).hexdigest()
    if is_user_name(slug):
        yield slug
    for length in (6, 12, 24):
        yield f"{slug[: _LONGEST_NAME - length - 1].rstrip('._-')}-{digest[:length]}"


def roles_of(values: list[str], roles: Mapping[str, str]) -> tuple[str, ...]:
    """What the settings make of the values of a claim."""
    found = set()
    for pattern, role in roles.items():
        before, star, after = pattern.partition("*")
        for value in values:
            if not star:
                found |= {role} if value == pattern else set()
            elif value.startswith(before) and value.endswith(after) and len(value) > len(before) + len(after):
                group = value[len(before) : len(value) - len(after)].lower()
                made = f"{group}{role[1:]}"
                found |= {made} if re.fullmatch(SCOPE, made) else set()
    return tuple(sorted(found))


def redirects_to(url: str, *origins: str, public_url: str) -> bool:
    """Whether a program may wait there for its code: on the caller's machine, any port (RFC 8252, 7.3), or at one of
    `origins`. Never at the platform's own address: the models answer there too, and would be given the code."""
    at, own = WebOrigin.of(url), WebOrigin.of(public_url)
    if at is None or own is None or urlsplit(url).fragment or urlsplit(url).username:
        return False
    # On its own machine the platform is at loopback as well, whatever it calls itself.
    if at.port == own.port and (at.host == own.host or is_loopback(at.host)):
        return False
    if at.scheme == "http" and is_loopback(at.host):
        return True
    return at in [WebOrigin.of(each) for each in origins]


def harmless(said: str) -> str:
    """What a provider says, for people to read: words, and nothing that could become more where it is shown."""
    return re.sub(r"[^\w .,:;()@+-]", " ", said, flags=re.ASCII)[:200]


def claim_at(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name (it may be an address with dots), or the one within another: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claim_at(claims, name)
    return value.replace("\x00", "").strip() if isinstance(value, str) else ""
