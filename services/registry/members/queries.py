"""What is read of members."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.parameters import after
from shared.http import PageQuery
from shared.schema import Member

# Several providers, or several roles, may speak of one group: the most of it counts.
_CLAIMED = """
    SELECT DISTINCT ON (i.user_id, g.id) i.user_id, g.id AS group_id, split_part(role, ':', 2) AS permission,
        i.provider AS source
    FROM identities i CROSS JOIN jsonb_array_elements_text(i.roles) AS role
        JOIN groups g ON g.id = split_part(role, ':', 1)
    WHERE role LIKE '%:%'
    ORDER BY i.user_id, g.id, array_position(ARRAY['manage', 'edit', 'read'], split_part(role, ':', 2)), i.provider"""
_CLAIMED_OF = text(f"SELECT * FROM ({_CLAIMED}) AS claimed WHERE user_id = :user")  # noqa: S608  # constants only
_UNFOLLOWED = text(f"""
    SELECT DISTINCT coalesce(c.user_id, m.user_id)
    FROM ({_CLAIMED}) AS c FULL JOIN members m ON m.user_id = c.user_id AND m.group_id = c.group_id
    WHERE CASE WHEN m.user_id IS NULL THEN true
        WHEN m.source IS NULL THEN false
        ELSE c.user_id IS NULL OR (m.permission, m.source) <> (c.permission, c.source) END
    ORDER BY 1 LIMIT :limit
""")  # noqa: S608  # constants only


@dataclass(frozen=True)
class Claim:
    """A permission on a group that an identity provider gives."""

    permission: str
    source: str


async def claimed(session: AsyncSession, user: str) -> dict[str, Claim]:
    """By group, of those that there are."""
    rows = await session.execute(_CLAIMED_OF, {"user": user})
    return {row.group_id: Claim(row.permission, row.source) for row in rows}


async def given_by_providers(session: AsyncSession, user: str) -> set[str]:
    """The groups of the memberships that came of claims."""
    statement = select(Member.group_id).where(Member.user_id == user, Member.source.is_not(None))
    return set((await session.execute(statement)).scalars())


async def unfollowed(session: AsyncSession, *, limit: int) -> Sequence[str]:
    """Users whose memberships are not what providers say of them."""
    return (await session.execute(_UNFOLLOWED, {"limit": limit})).scalars().all()


async def find(session: AsyncSession, group: str, user: str) -> Member | None:
    return await session.get(Member, (group, user), populate_existing=True)


async def page(session: AsyncSession, group: str, paging: PageQuery) -> tuple[Sequence[Member], int | None]:
    """`limit + 1` rows by user, and the total if it was asked for."""
    wanted = [Member.group_id == group]
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(Member).where(*wanted))).scalar_one()
    if key := after(paging, str):
        wanted.append(Member.user_id > key[0])
    rows = await session.execute(select(Member).where(*wanted).order_by(Member.user_id).limit(paging.limit + 1))
    return rows.scalars().all(), total


async def other_managers(session: AsyncSession, group: str, user: str) -> int:
    """How many managers the group has beside `user`."""
    statement = select(func.count()).where(
        Member.group_id == group, Member.permission == "manage", Member.user_id != user
    )
    return (await session.execute(statement)).scalar_one()
