"""A change and its event in one transaction (outbox), each event applied once (inbox).

`append` writes the event beside the change; `Relay` publishes what was committed, at least once and in order per key;
`first_delivery` tells a consumer whether it has applied an event before. Publishing itself is the bus's.
"""

from shared.outbox.append import append
from shared.outbox.inbox import first_delivery
from shared.outbox.relay import Relay

__all__ = ["Relay", "append", "first_delivery"]
