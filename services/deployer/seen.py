"""What a run of the reconciler has read, and so which events are no news to it."""

from dataclasses import dataclass

from shared.events import CloudEvent, deployer

__all__ = ["Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one deployment: what is wanted, and what Envoy has acknowledged or refused. Nothing, if no run has read it."""

    generation: int = 0
    routed_generation: int = 0
    acknowledged: int = 0
    rejected: str | None = None

    def covers(self, event: CloudEvent) -> bool:
        """Whether the rows that were read are as new as the event, one of those that wake the reconciler."""
        said = event.data
        if event.type == deployer.DEPLOYMENT_CHANGED.name:
            return bool(said["generation"] <= self.generation)
        if said.get("rejected", True) or self.rejected is not None:
            return False  # a refusal, and the end of one, have no generation of their own
        enforced = said["generation"] <= self.routed_generation
        return bool(enforced and said["endpoints_generation"] <= self.acknowledged)
