"""Everything on one machine: PostgreSQL, Envoy, its snapshot server and the four services, on loopback, in one folder.

`python -m deploy.embedded up` starts it, shows how it comes up and leaves it running; `down` stops it; `status` tells.
A supervisor in the background restarts what dies. If the supervisor itself is killed everything else goes on, and the
next `up` adopts it. The services are the same as in production; only the bus and the platform differ.

`state` is what the folder remembers, `units` the processes, `supervisor` keeps them running, `postgres` the database.
"""
