"""An Envoy without Envoy: the other end of `Peer`, which answers what the test says it does, when it says so."""

from collections.abc import Iterable, Mapping

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from services.gateway.envoy.peer import Peer
from services.gateway.envoy.resources import CLUSTER, ENDPOINTS, SCOPE, Bundle, Resource
from services.gateway.envoy.store import Phase, Store

SHORT = {CLUSTER: "C", ENDPOINTS: "E", SCOPE: "S"}


def bundle(name: str, *versions: int, scope: str = "") -> Bundle:
    """A deployment of these versions; `scope` is what its scope says, to have it differ."""
    clusters = [
        Resource.of(kind, f"{name}/{version}", f"{kind} {name}".encode())
        for version in versions
        for kind in (CLUSTER, ENDPOINTS)
    ]
    return Bundle.of([*clusters, Resource.of(SCOPE, name, f"{name} {versions} {scope}".encode())])


class FakeEnvoy:
    """The other end: acknowledges what the test says it does, and asks for endpoints as Envoy does."""

    def __init__(self, store: Store, *, name: str = "envoy") -> None:
        self.store = store
        self.name = name
        self.peer = Peer(store, wake=lambda: None)
        store.connect(self.peer)
        self.unanswered: list[DeltaDiscoveryResponse] = []

    def ask(self, *kinds: str, names: Iterable[str] = (), holds: Mapping[str, str] | None = None) -> None:
        for kind in kinds:
            self._send(
                DeltaDiscoveryRequest(
                    type_url=kind, resource_names_subscribe=list(names), initial_resource_versions=holds or {}
                )
            )

    def sent(self) -> list[str]:
        """What comes now, like `C+churn/1` and `S-churn`, one list a response."""
        fresh = list(self.peer.responses())
        self.unanswered += fresh
        return [
            " ".join(
                [
                    *(f"{SHORT[r.type_url]}+{entry.name}" for entry in r.resources),
                    *(f"{SHORT[r.type_url]}-{name}" for name in r.removed_resources),
                ]
            )
            or SHORT[r.type_url]
            for r in fresh
        ]

    def answer(self, *, refuse: Iterable[str] = ()) -> None:
        """To everything sent, in order; a response that holds a refused name or version is refused whole."""
        responses, self.unanswered = self.unanswered, []
        for response in responses:
            names = {entry.name for entry in response.resources}
            request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            if bad := {entry.name for entry in response.resources if {entry.name, entry.version} & set(refuse)}:
                request.error_detail.message = f"bad: {min(bad)}"
            self._send(request)
            if response.type_url == CLUSTER and not bad:
                self.ask(ENDPOINTS, names=sorted(names))

    def converge(self, *, refuse: Iterable[str] = ()) -> list[str]:
        """Answer until nothing more comes; what came."""
        everything: list[str] = []
        while sent := self.sent():
            everything += sent
            self.answer(refuse=refuse)
        return everything

    def _send(self, request: DeltaDiscoveryRequest) -> None:
        request.node.id = self.name
        self.store.progressed(self.peer.receive(request))

    def hang_up(self) -> None:
        self.store.disconnect(self.peer)

    def phase(self, name: str) -> Phase:
        return self.store.status(name).phase


def connected(bundles: Mapping[str, Bundle]) -> FakeEnvoy:
    envoy = FakeEnvoy(Store(bundles))
    envoy.ask(CLUSTER, SCOPE)
    return envoy
