"""Writes the audit log: who changed what, in the transaction of the change, and who was denied what.

What changed is collected by the database (triggers of migration 0013, which list the columns that may be shown), so an
entry fits its transaction whatever the code says. Left out: the chain and what reads the log; both are the gateway's.
"""

import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Literal
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.blanking import blanked

UNRECORDED = Counter(
    "moorage_audit_unrecorded_denials_total", "Denied attempts beyond what is recorded of one caller or of all"
)

_APPEND = text("""
    INSERT INTO audit_entries (service, user_id, group_id, token, action, method, path, outcome, status, code,
                               request_id, address, changes)
    VALUES (:service, :user, :group, :token, :action, :method, :path, :outcome, :status, :code, :request_id, :address,
            ('[' || coalesce(current_setting('moorage.audit_changes', true), '') || ']')::jsonb)
""")


@dataclass(frozen=True)
class Act:
    """What somebody did, or was denied. `path` is the resource; of one that was made, its own. `token`: by which
    personal access token, if by one."""

    service: str
    user: str | None
    group: str | None
    action: str
    method: str
    path: str
    outcome: Literal["done", "denied"]
    status: int
    code: str | None
    request_id: str
    address: str
    token: UUID | None = None


async def append(session: AsyncSession, act: Act) -> None:
    """The entry is there if, and only if, the session's transaction commits; with all that it has changed so far."""
    await session.flush()
    await session.execute(_APPEND, {name: _storable(name, value) for name, value in asdict(act).items()})


class Allowance:
    """How many denied attempts are recorded: of one caller or address twenty at once, then one a second; of all
    together two hundred, then twenty a second. Or whoever may do nothing could fill the disk. In memory."""

    _OF_ONE = (20, 1.0)
    _OF_ALL = (200, 0.05)
    _REMEMBERED = 10_000

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._all_full_at = 0.0

    def take(self, who: str, *, now: float | None = None) -> bool:
        """Whether one more of `who` is to be recorded."""
        now = time.monotonic() if now is None else now
        burst, every = self._OF_ONE
        all_burst, all_every = self._OF_ALL
        own, all_ = max(self._full_at.get(who, now), now) + every, max(self._all_full_at, now) + all_every
        if own - now > burst * every or all_ - now > all_burst * all_every:
            UNRECORDED.inc()
            return False
        self._full_at[who], self._all_full_at = own, all_
        self._full_at.move_to_end(who)
        if len(self._full_at) > self._REMEMBERED:
            self._full_at.popitem(last=False)
        return True


_LONGEST = {"user": 63, "path": 1000, "address": 64}


def _storable(name: str, value: str | int | UUID | None) -> str | int | UUID | None:
    """A path, an address or a name that came with a request may be anything, a secret too. `user` is one who is there:
    blanked for its looks, a name could hide who did it."""
    if not isinstance(value, str):
        return value
    return (value if name == "user" else blanked(value)).replace("\x00", "\ufffd")[: _LONGEST.get(name, 128)]
