"""The bus that carries events between services: a protocol, and one module for each implementation.

What every implementation promises (one contract suite tests them all): events of a key arrive in order; each arrives at
least once; the members of a consumer group share the work; a crash between handling and committing means a second
delivery; an event that cannot be handled goes to the dead letters with its cause and holds up nobody; a group goes on
where it was. Implementations: `postgres` (no broker needed), `kafka`; `connect` chooses by the settings.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Delete

from shared.events import CloudEvent


class BusUnavailable(Exception):
    """The bus cannot be reached; nothing is known to be lost, try again."""


@dataclass(frozen=True)
class Message:
    """An event on its way; order holds among messages of one topic and key.

    `only_for` makes it a replay, which all consumers but that one pass over.
    """

    topic: str
    key: str
    event: CloudEvent
    only_for: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """What `consumer` could not handle, and why; `event` is as it came, and may be none. `position` is the bus's."""

    position: int
    consumer: str
    topic: str
    key: str
    event: dict[str, Any]
    cause: str
    at: datetime


Handler = Callable[[CloudEvent], Awaitable[None]]
"""Applies one event. It may be called twice with the same one; raising means: try again, then dead-letter it."""


class Bus(Protocol):
    async def publish(self, messages: Sequence[Message]) -> None:
        """Return once all messages are safe, in this order. Raises BusUnavailable: any may then be there."""

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        """Hand the topics' events to `handler` as a member of the group `consumer`, until cancelled.

        A new group starts at the oldest event that is kept. Outages of the bus are waited out.
        """

    async def lag(self, consumer: str, topics: Sequence[str]) -> int:
        """Events of the topics that `consumer` has still to handle. Raises BusUnavailable."""

    async def dead_letters(self, *, limit: int = 1000) -> Sequence[DeadLetter]:
        """Those that nobody has settled, oldest first. Raises BusUnavailable."""

    async def settle(self, letters: Sequence[DeadLetter]) -> None:
        """Have done with the first letters that `dead_letters` gave. Raises BusUnavailable."""

    async def check(self) -> None:
        """Raises BusUnavailable when the bus does not answer."""

    def chores(self) -> Sequence[Delete]:
        """What housekeeping has to do for it."""

    async def close(self) -> None:
        """Let go of what publishing held open."""
