"""A change and its event in one transaction (outbox), each event applied once (inbox).

`append` writes the event beside the change, `appending` and `entry` in the statement that makes the change; `Relay`
publishes what was committed, at least once and in order per key; `first_delivery` tells a consumer whether it has
applied an event before. Publishing itself is the bus's.
"""

from shared.outbox.append import Entry, append, appending, entry
from shared.outbox.inbox import first_delivery
from shared.outbox.relay import Relay

__all__ = ["Entry", "Relay", "append", "appending", "entry", "first_delivery"]
