"""The bus that carries events between services: a protocol, and one module for each implementation.

What every implementation promises (one contract suite tests them all): events of a key arrive in order; each arrives at
least once; the members of a consumer group share the work; a crash between handling and committing means a second
delivery; an event that cannot be handled goes to the dead letters with its cause and holds up nobody; a group goes on
where it was. Implementations: `postgres` (no broker needed), `kafka`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.events import CloudEvent


class BusUnavailable(Exception):
    """The bus cannot be reached; nothing is known to be lost, try again."""


@dataclass(frozen=True)
class Message:
    """An event on its way; order holds among messages of one topic and key."""

    topic: str
    key: str
    event: CloudEvent


Handler = Callable[[CloudEvent], Awaitable[None]]
"""Applies one event. It may be called twice with the same one; raising means: try again, then dead-letter it."""


class Bus(Protocol):
    async def publish(self, messages: Sequence[Message]) -> None:
        """Return once all messages are safe, in this order. Raises BusUnavailable: any may then be there."""

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        """Hand the topics' events to `handler` as a member of the group `consumer`, until cancelled.

        A new group starts at the oldest event that is kept. Outages of the bus are waited out.
        """
