"""Admission (rule 7): in one transaction, lock the group, sum what is reserved, decide. The caller then writes."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.deployer.deployments import queries
from services.deployer.deployments.domain import NOTHING, VersionSpec, over_quota, reserve
from services.deployer.errors import DeploymentDisabled
from shared.errors import NotFound, QuotaExceeded

__all__ = ["admit", "reserve"]


async def admit(
    session: AsyncSession,
    group: str,
    *,
    uid: UUID,
    versions: Sequence[VersionSpec],
    held: Sequence[VersionSpec] | None,
    dry_run: bool,
) -> QuotaExceeded | None:
    """Raises if `group` may not run `versions`; on a dry run what is over the quota is answered instead.

    No versions are those of a stopped deployment: they count nothing. `held` is what it has running now.
    """
    row = await queries.group_to_admit(session, group)
    if row is None:
        raise NotFound.named("group", group)
    if not row.deployment_enabled:
        raise DeploymentDisabled(
            f"Deployment is switched off for group {group}; a platform admin can switch it on.", group=group
        )
    if not versions:
        return None
    limit: dict[str, float | None] = {
        "cpu": None if row.quota_cpu is None else float(row.quota_cpu),
        "memory": row.quota_memory,
        "gpu": None if row.quota_gpu is None else float(row.quota_gpu),
        "deployments": row.quota_deployments,
    }
    if all(most is None for most in limit.values()):
        return None
    wanted, used = reserve(versions), await queries.used(session, group, but=uid)
    resources = over_quota(wanted, held=reserve(held) if held else NOTHING, used=used, limit=limit)
    if not resources:
        return None
    refusal = QuotaExceeded(
        f"The quota of group {group} does not hold this: "
        + "; ".join(
            f"{name}: {wanted.figures()[name]:g} requested, {used.figures()[name]:g} used, limit {limit[name]:g}"
            for name in resources
        )
        + ". A rollout's surge is counted; ask for less, stop something, or have the quota raised.",
        group=group,
        resources=resources,
        requested=wanted.figures(),
        used=used.figures(),
        limit=limit,
    )
    if dry_run:
        return refusal
    raise refusal
