"""What a published contract is."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class EventData(BaseModel):
    """Base of every contract's data: what is not in the contract is refused at the sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class EventType:
    """One published contract. Fields of `data` may be added, never removed or given another meaning."""

    name: str
    service: str
    data: type[EventData]

    @property
    def topic(self) -> str:
        return f"moorage.{self.service}"
