"""Runs the snapshot server. Settings come from the environment by hand: this process imports as little as it can.

MOORAGE_SNAPSHOT_PATH   the gateway's snapshot file; it need not be there yet
MOORAGE_SNAPSHOT_PORT   where Envoy asks
MOORAGE_SNAPSHOT_HOST   127.0.0.1
MOORAGE_XDS_ADDRESS     host:port of the gateway's xDS server: while that speaks, nothing is served here
"""

import asyncio
import logging
import os
import signal
from pathlib import Path

from services.gateway.envoy.server import XdsServer
from services.gateway.envoy.snapshot import read_snapshot
from services.gateway.envoy.store import Store

_log = logging.getLogger("moorage.snapshot")

_YIELD_WITHIN = 0.2

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # with empty SETTINGS
_FRAME_HEADER = 9


class SnapshotServer:
    """Serves what is on disk, read anew for each stream, and only while the gateway is away."""

    def __init__(self, *, path: Path, gateway: tuple[str, int]) -> None:
        self._path = path
        self._gateway = gateway
        self.xds = XdsServer(self._snapshot)

    async def watch(self) -> None:
        """Envoy stays with us until we end the stream, so somebody has to notice that the gateway is back."""
        while True:
            await asyncio.sleep(_YIELD_WITHIN)
            if self.xds.peers and await self._gateway_is_there():
                _log.info("the gateway is back: yielding")
                self.xds.close_streams()

    async def _snapshot(self) -> Store | None:
        if await self._gateway_is_there():
            return None
        bundles = await asyncio.to_thread(read_snapshot, self._path)
        if not bundles:
            return None  # to serve nothing would be to say that there is nothing
        _log.info("serving the snapshot: %d bundles", len(bundles))
        return Store(bundles)

    async def _gateway_is_there(self) -> bool:
        # It opens its port once its state is loaded, so to speak is to be ready. To accept is not enough: the kernel
        # does that for a gateway that hangs, too.
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(*self._gateway)
                try:
                    writer.write(_HTTP2_PREFACE)
                    await reader.readexactly(_FRAME_HEADER)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return True


async def main() -> None:
    host, _, port = os.environ["MOORAGE_XDS_ADDRESS"].rpartition(":")
    server = SnapshotServer(path=Path(os.environ["MOORAGE_SNAPSHOT_PATH"]), gateway=(host, int(port)))
    address = os.environ.get("MOORAGE_SNAPSHOT_HOST", "127.0.0.1")
    await server.xds.start(f"{address}:{os.environ['MOORAGE_SNAPSHOT_PORT']}")
    watching = asyncio.create_task(server.watch())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
    await asyncio.wait([watching])
    await server.xds.stop()


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format='{"time": "%(asctime)s", "level": "%(levelname)s", "message": "%(message)s"}'
    )
    asyncio.run(main())
