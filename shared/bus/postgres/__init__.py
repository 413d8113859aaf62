"""The bus over PostgreSQL: for one machine, and wherever no broker is wanted.

A topic is a table of messages in a fixed number of partitions by key, and a row for each partition with its newest
offset. A member of a consumer group leases the partitions that have news, handles what is in them, and moves the
cursors under the leases' fences, so two members never work on one key at once. NOTIFY only wakes; a poll finds what a
lost one left. Messages are kept for `retention`, whether or not they were consumed.
"""

from shared.bus.postgres.bus import PostgresBus

__all__ = ["PostgresBus"]
