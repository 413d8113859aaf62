"""What to start, drain and end next, so that the replicas become what is wanted and service never shrinks on the way.

Pure: what is there and the time go in, a plan comes out. Applied again and again it converges; no plan remembers
another. A replica is *in service* when it is Ready and the data plane has acknowledged its route (`serving`); it may be
routed, and must not be ended, while it is in `keep`. The rules, in their order:

- A draining replica is ended once it is no longer routed, and was given `settle` seconds for a route that was on its
  way to the data plane when it began to drain.
- Stale replicas (of another template) that never were Ready go at once: they serve nobody.
- Of the other stale ones, as many stay as fresh ones in service are missing, the best of them. So a fresh template
  that is broken takes down nothing, however long it is tried.
- Fresh ones above what is wanted go, the worst first.
- Fresh ones are started up to what is wanted, within the surge. Whatever has not ended counts: admission has reserved
  no more than that. So a start may have to wait for an end.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.deployer.platforms.platform import Phase, surge


@dataclass(frozen=True)
class Candidate:
    """What of a replica decides about it. Times are seconds on one clock; `proven`: it has been Ready before."""

    id: str
    template_digest: str
    phase: Phase
    proven: bool
    started_at: float
    draining_since: float | None = None
    ending: bool = False
    """It was told to end and has not ended yet."""


@dataclass(frozen=True)
class Plan:
    """The next steps; ids of what to drain and what to end at once, each worst first."""

    start: int = 0
    drain: tuple[str, ...] = ()
    end: tuple[str, ...] = ()


def plan(
    *,
    wanted: int,
    digest: str,
    replicas: Sequence[Candidate],
    keep: Collection[str],
    serving: Collection[str],
    now: float,
    settle: float = 0.0,
) -> Plan:
    """The next steps from `replicas` to `wanted` ones with the template `digest`."""

    def in_service(replica: Candidate) -> bool:
        return replica.phase is Phase.READY and replica.id in serving

    def worth(replica: Candidate) -> tuple[bool, bool, bool, bool, float]:
        # A routed replica that is unready for a moment is worth more than one that is not routed.
        ready = replica.phase is Phase.READY
        return in_service(replica), ready, replica.id in keep, replica.proven, -replica.started_at

    live = [r for r in replicas if r.phase not in (Phase.DRAINING, Phase.ENDED)]
    fresh = sorted((r for r in live if r.template_digest == digest), key=worth)
    stale = sorted((r for r in live if r.template_digest != digest and r.proven), key=worth)
    unproven = [r for r in live if r.template_digest != digest and not r.proven]

    replaced = sum(map(in_service, fresh))
    surplus_stale = stale[: max(0, len(stale) - max(0, wanted - replaced))]
    surplus_fresh = fresh[: max(0, len(fresh) - wanted)]
    leaving = unproven + surplus_stale + surplus_fresh

    alive = sum(r.phase is not Phase.ENDED for r in replicas)
    missing = wanted - (len(fresh) - len(surplus_fresh))
    room = wanted + surge(wanted) - alive

    def gone(replica: Candidate) -> bool:
        since = replica.draining_since
        return replica.id not in keep and (since is None or now - since >= settle)

    drained = [r for r in replicas if r.phase is Phase.DRAINING and not r.ending and gone(r)]
    useless = [r for r in leaving if not r.proven and r.id not in keep]
    return Plan(
        start=max(0, min(missing, room)),
        drain=tuple(r.id for r in leaving if r not in useless),
        end=tuple(r.id for r in drained + useless),
    )
