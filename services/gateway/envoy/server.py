"""The xDS server: delta ADS over grpc.aio, a `Peer` for each connected Envoy. It moves messages and decides nothing.

Only `start` opens the port, so that whoever starts it loads the state first: an empty control plane that answers would
take all routing down.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from services.gateway.envoy.peer import Peer
from services.gateway.envoy.store import Store

__all__ = ["XdsServer"]

_log = logging.getLogger(__name__)

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),  # an Envoy that comes back tells all that it holds
    # For Envoys whose machine has gone. One that takes in 10,000 deployments answers no ping for seconds, though.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)

_SECONDS_A_RESOURCE = 0.005
"""Ten times what Envoy takes for one on a core of its own."""

_Context = grpc.aio.ServicerContext[DeltaDiscoveryRequest, DeltaDiscoveryResponse]


class XdsServer:
    """Serves a store to any number of Envoys.

    `store` is asked for each stream that opens; None refuses the stream (the snapshot server does, while the gateway is
    there). `patience` is how many seconds an Envoy may leave a response unanswered before it is cut off, and some for
    each resource in it: it comes back when it can, and nobody waits for it meanwhile.
    """

    def __init__(self, store: Callable[[], Awaitable[Store | None]], *, patience: float = 10.0) -> None:
        self._store = store
        self._patience = patience
        self._server: grpc.aio.Server | None = None
        self._streams: set[_Stream] = set()

    @classmethod
    def of(cls, store: Store) -> "XdsServer":
        """The gateway's: one store for all."""

        async def always() -> Store:
            return store

        return cls(always)

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(stream.peer for stream in self._streams)

    async def start(self, address: str) -> int:
        """Open `host:port`; port 0 takes a free one. Answers the port."""
        server = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(
            self._handle,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=DeltaDiscoveryResponse.SerializeToString,
        )
        methods = {"DeltaAggregatedResources": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        port = server.add_insecure_port(address)
        await server.start()
        self._server = server  # grpc.aio keeps no reference: collected, it would close
        return port

    async def stop(self) -> None:
        """Close every stream and the port. Envoys keep what they have and look for another server."""
        self.close_streams()
        if self._server is not None:
            await self._server.stop(grace=0.5)
            self._server = None

    def close_streams(self) -> None:
        """End what is open; the port stays."""
        for stream in self._streams:
            stream.close()

    async def _handle(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: _Context) -> None:
        store = await self._store()
        if store is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway itself is there")
        assert store is not None
        stream = _Stream(store, requests, context, patience=self._patience)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)


class _Stream:
    """One open stream: requests are taken in as they come, responses go out whenever the peer has some."""

    def __init__(
        self, store: Store, requests: AsyncIterator[DeltaDiscoveryRequest], context: _Context, *, patience: float
    ) -> None:
        self._wake = asyncio.Event()
        self.peer = Peer(store, wake=self._wake.set)
        self._store = store
        self._requests = requests
        self._context = context
        self._patience = patience
        self._heard = 0.0
        self._closing = False

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reader.cancel()
            self._store.disconnect(self.peer)
            _log.info("envoy disconnected", extra={"node": self.peer.node})

    async def _read(self) -> None:
        known = False
        try:
            async for request in self._requests:
                if request.HasField("error_detail"):
                    _log.warning(
                        "envoy refused a response",
                        extra={
                            "node": self.peer.node or request.node.id,
                            "type_url": request.type_url,
                            "reason": request.error_detail.message,
                        },
                    )
                self._heard = asyncio.get_running_loop().time()
                touched = self.peer.receive(request)
                if not known:
                    known = True
                    self._store.connect(self.peer)
                    _log.info("envoy connected", extra={"node": self.peer.node})
                self._store.progressed(touched)
                self._wake.set()
        finally:
            self.close()

    def _enough(self) -> float:
        return self._patience + _SECONDS_A_RESOURCE * self.peer.awaiting

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            idle = not self.peer.awaiting
            try:
                async with asyncio.timeout_at(None if idle else self._heard + self._enough()):
                    await self._wake.wait()
                    self._wake.clear()
                    if idle:
                        self._heard = loop.time()  # from now on it may be awaited
                    for response in self.peer.responses():
                        await self._context.write(response)
            except TimeoutError:
                _log.warning("envoy does not answer and is cut off", extra={"node": self.peer.node})
                return
