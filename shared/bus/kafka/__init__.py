"""The bus over Kafka: a topic for each service, a partition by the key, CloudEvents in binary content mode.

Publishing is idempotent and acknowledged by all replicas. Consuming is by groups; an offset is committed after its
event was handled, and before a partition goes to another member, so that a rebalance means no double work. Dead letters
are records of one topic, with the cause in their headers. Nothing else imports aiokafka.

Left out: transactions (outbox and inbox make them needless) and schema registries (`shared.events` are the schemas).
"""

from shared.bus.kafka.bus import KafkaBus
from shared.bus.kafka.cluster import DEAD_LETTERS, Cluster

__all__ = ["DEAD_LETTERS", "Cluster", "KafkaBus"]
