"""The only writer of identities; makes the users behind them, and ends none."""

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.errors import LastAdmin, ProviderRefused
from services.gateway.oidc.domain import Person, user_names
from services.gateway.oidc.settings import IdentityProvider
from services.gateway.users.commands import change_user, create_user
from services.gateway.users.queries import is_former, user_of
from shared import outbox
from shared.access_tokens import ADMIN
from shared.errors import NameTaken
from shared.events.gateway import USER_CHANGED
from shared.schema import Identity, ServiceAccount, User
from shared.telemetry import get_logger

log = get_logger(__name__)


async def admit(
    session: AsyncSession, person: Person, provider: IdentityProvider, *, all_providers: Iterable[IdentityProvider]
) -> User:
    """The user who this person is: the one of before, the one with the verified e-mail address if that is trusted, or a
    new one. The user stays as it is until the end of the transaction. Raises ProviderRefused."""
    await session.execute(
        select(func.pg_advisory_xact_lock(_lock_of(person)))
    )  # a first sign-in may come twice at once
    identity = await session.get(Identity, (person.issuer, person.subject))
    if identity is None:
        trusted = [each.name for each in all_providers if each.trusts_email]
        known = await _by_email(session, person, trusted) if provider.trusts_email else None
        user = known or await _new_user(session, person)
        identity = Identity(
            issuer=person.issuer, subject=person.subject, user_id=user.id, provider=provider.name, roles=[]
        )
        session.add(identity)
    else:
        user = await user_of(session, identity.user_id, for_update=True)
    if user.disabled:
        raise ProviderRefused(f"Your user {user.id} is disabled on this platform; ask an administrator.", user=user.id)
    roles = list(person.roles)
    if (identity.roles, identity.provider) != (roles, provider.name):
        identity.roles, identity.provider = roles, provider.name
        await session.flush()
        await outbox.append(session, USER_CHANGED, user.id, user=user.id)  # the registry makes memberships of it
    if provider.gives_admin and user.admin is not (ADMIN in roles):
        try:
            await change_user(session, user, {"admin": ADMIN in roles})
        except LastAdmin:
            log.warning("oidc.last_admin_kept", user=user.id, provider=provider.name)
    return user


async def _by_email(session: AsyncSession, person: Person, trusted: Sequence[str]) -> User | None:
    """The one user with this address. Not whom a provider brought that is not trusted: that named the address, too, and
    somebody could wait there for its owner to come."""
    if person.email is None:
        return None
    same = select(User).where(func.lower(User.email) == person.email.lower()).limit(2)
    same = same.where(~select(ServiceAccount).where(ServiceAccount.user_id == User.id).exists())
    same = same.where(~select(Identity).where(Identity.user_id == User.id, Identity.provider.not_in(trusted)).exists())
    found = (await session.execute(same.with_for_update())).scalars().all()
    return found[0] if len(found) == 1 else None


async def _new_user(session: AsyncSession, person: Person) -> User:
    taken = select(User.id).where(User.email == person.email) if person.email else None
    email = None if taken is None or (await session.execute(taken)).first() else person.email
    for name in user_names(person):
        try:
            async with session.begin_nested():
                user = await create_user(
                    session, name, display_name=person.display_name, email=email, password_hash=None
                )
                if await is_former(session, name):  # only now: whoever was being removed has been waited for
                    raise NameTaken(f"{name} was somebody else.", user=name)
                return user
        except NameTaken:
            continue
    raise NameTaken("No name is free for a user of this identity.", subject=person.subject)


def _lock_of(person: Person) -> int:
    digest = hashlib.sha256(f"identity {person.issuer} {person.subject}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
