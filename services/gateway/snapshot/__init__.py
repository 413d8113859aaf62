"""The snapshot server: a small process beside Envoy that serves the last acknowledged configuration from disk.

Envoy's xDS failover asks it when the gateway does not answer, so that an Envoy which starts cold while every other
process is dead routes and checks tokens as before. It yields as soon as the gateway is there, and changes nothing.

    MOORAGE_SNAPSHOT_PATH=… MOORAGE_SNAPSHOT_PORT=18001 MOORAGE_XDS_ADDRESS=127.0.0.1:18000 \\
        python -m services.gateway.snapshot
"""
