"""The Envoy control plane: routes of deployments in, acknowledged configuration out.

    snapshot = SnapshotFile(state_dir / "envoy-snapshot.db")          # what a cold Envoy gets while we are down
    store = Store()                                                   # what every Envoy shall hold
    publisher = Publisher(store, snapshot, notify=lambda id, outcome: queue.add(id))

    publisher.load(routes_of_all_rows, others={PLATFORM: platform_scopes()})   # first the state …
    server = XdsServer.of(store)
    await server.start("127.0.0.1:18000")                                      # … then the port

    outcomes = await publisher.publish({"churn": DeploymentRoutes(id="churn", generation=8, …), "old": None}, within=5)
    match outcomes["churn"]:
        case Enforced(routes):   ...   # every Envoy has it: routes.generation, routes.weights, routes.replicas are true
        case Rejected(reason):   ...   # Envoy refused it and goes on with the last good state
        case Pending(reason):    ...   # it will be enforced when Envoy is back; `notify` tells

The modules, from the inside out: `model` (what routes mean), `translate` and `platform` (pure: into Envoy's resources),
`resources` (those as bytes), `store` (wanted state), `peer` (one Envoy's protocol and the barrier, without I/O),
`server` (gRPC), `snapshot` (on disk), `publisher` (change → enforced). This package alone imports the Envoy protos and
grpc. It leaves out: rows, the API, who may do what, and Envoy's bootstrap (deploy/envoy). Figures: docs/data-plane.md.

Nothing is imported here: the snapshot server needs `server` and `snapshot` alone, and is to stay small.
"""
