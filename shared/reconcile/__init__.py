"""Bringing the world to what the rows say, a key at a time.

`Controller` takes keys from events, hints and a periodic resync, hands each to a reconcile function that is idempotent
and reads everything anew, never works on one key twice at once in this process (`WorkQueue`) nor, with `Leases`, in any
other, and tries again with a backoff for each key. What a reconcile function does belongs to the service.
"""

from shared.reconcile.controller import Controller, Retry, Terminal
from shared.reconcile.lease import FENCED, Fence, LeaseLost, Leases
from shared.reconcile.queue import WorkQueue

__all__ = ["FENCED", "Controller", "Fence", "LeaseLost", "Leases", "Retry", "Terminal", "WorkQueue"]
