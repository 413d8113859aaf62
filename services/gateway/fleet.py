"""Which Envoys there are, and which gateway knows what each of them routes by: keeps `envoys`, for all gateways.

An Envoy that loses its stream goes on routing by what it has. So it counts on, with the gateway that served it last:
that gateway says nothing more of its Envoys until this one is back, or has shown up at another gateway and been brought
up to date there, or nobody has heard of it for so long that it is taken to be gone. The same holds for all Envoys of a
gateway that has died, because what it said last stays in the rows, and counts while one of its Envoys does.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge
from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT

from services.gateway.envoy.store import Store
from shared.database import HINTS, Sessions, is_disconnect
from shared.telemetry import get_logger

log = get_logger(__name__)

ENVOYS = Gauge("moorage_gateway_envoys", "Envoys of this gateway: connected, or missing and waited for", ["state"])

_BEAT = 10.0
_BEAT_IN_DOUBT = 0.5
"""While an Envoy is missing, or not yet ours: it may have shown up elsewhere, or be up to date by now."""

_NAMES = ARRAY(TEXT)
_HEARD_OF = text("""
    INSERT INTO envoys (node, gateway) SELECT node, :gateway FROM unnest(:connected) node ORDER BY node
    ON CONFLICT (node) DO UPDATE SET seen_at = now(),
        gateway = CASE WHEN envoys.node = ANY(:caught_up) THEN excluded.gateway ELSE envoys.gateway END
""").bindparams(bindparam("connected", type_=_NAMES), bindparam("caught_up", type_=_NAMES))
_FORGET = text("DELETE FROM envoys WHERE seen_at < now() - make_interval(secs => :seconds) RETURNING node, gateway")
_ALL = text("SELECT node, gateway FROM envoys")
_HINT = "moorage.fleet.changed"
_TELL = select(func.pg_notify(HINTS, f"{_HINT} envoys"))


class Fleet:
    """`regroup` is called when the other gateways are not those that they were."""

    def __init__(self, sessions: Sessions, store: Store, *, gateway: str, gone_after: float) -> None:
        self._sessions = sessions
        self._store = store
        self._gateway = gateway
        self._gone_after = gone_after
        self._gateways: dict[str, str] = {}
        self._last_beat = self._beating_since = float("-inf")
        self.others: frozenset[str] = frozenset()
        """The other gateways that Envoys are with."""

    async def run(self, regroup: Callable[[], Awaitable[None]]) -> None:
        while True:
            doubt = self._store.missing or self._strangers()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_IN_DOUBT if doubt else min(_BEAT, self._gone_after / 3)):
                    await self._store.changed.wait()
            self._store.changed.clear()
            before = self.others
            try:
                await self.beat()
                if self.others != before:
                    await regroup()
            except Exception as error:
                if is_disconnect(error):
                    log.warning("fleet.database_away", error=repr(error))
                else:
                    log.exception("fleet.failed")
                self.others = before  # regrouping is to be done again
                self._store.changed.set()
                await asyncio.sleep(_BEAT_IN_DOUBT)

    async def beat(self) -> None:
        """Say whom we have heard of, and learn who counts."""
        connected = sorted(self._store.nodes)
        caught_up = [node for node in self._strangers() if self._store.caught_up(node)]
        names = {"gateway": self._gateway, "connected": connected, "caught_up": caught_up}
        async with self._sessions.begin() as session:
            if connected:
                await session.execute(_HEARD_OF, names)
            if self._may_forget():
                for gone in await session.execute(_FORGET, {"seconds": self._gone_after}):
                    log.warning("envoy.forgotten", node=gone.node, gateway=gone.gateway)
            gateways = {row.node: row.gateway for row in await session.execute(_ALL)}
            if self._ours(gateways) != self._ours(self._gateways):
                await session.execute(_TELL)
        self._gateways = gateways
        self.others = frozenset(gateways.values()) - {self._gateway}
        self._store.expect(self._ours(gateways), elsewhere=bool(self.others))
        ENVOYS.labels("connected").set(len(self._store.nodes))
        ENVOYS.labels("missing").set(len(self._store.missing))

    def hint(self, kind: str, _: str) -> None:
        """For `Hints.listen`: who of the others has an Envoy is known at once."""
        if kind in (_HINT, ""):
            self._store.changed.set()

    def _ours(self, gateways: Mapping[str, str]) -> frozenset[str]:
        return frozenset(node for node, gateway in gateways.items() if gateway == self._gateway)

    def _strangers(self) -> list[str]:
        """Connected here, and not yet ours."""
        return [node for node in self._store.nodes if self._gateways.get(node, self._gateway) != self._gateway]

    def _may_forget(self) -> bool:
        """Not soon after a start, or after the database was away: the others too may have had no way of saying whom
        they hear of."""
        now = asyncio.get_running_loop().time()
        if now - self._last_beat > self._gone_after / 2:
            self._beating_since = now
        self._last_beat = now
        return now - self._beating_since > self._gone_after
