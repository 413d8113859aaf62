"""Which bus the settings ask for, and how it is reached."""

import ssl

from shared.bus import Bus
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints
from shared.settings import StateSettings


def connect(settings: StateSettings, direct: Direct, hints: Hints) -> Bus:
    """Nothing is connected yet: that happens when it is used, and again whenever it is lost."""
    if settings.bus == "postgres":
        return PostgresBus(direct, hints, retention=settings.bus_retention)
    # Imported where it is wanted: one machine without a broker does not pay for its client.
    from shared.bus.kafka import Cluster, KafkaBus

    password = settings.bus_password
    return KafkaBus(
        Cluster(
            servers=settings.bus.removeprefix("kafka://").split(","),
            prefix=settings.bus_prefix,
            tls=_tls(settings) if settings.bus_tls else None,
            sasl_mechanism=settings.bus_sasl,
            username=settings.bus_username,
            password=password.get_secret_value() if password else None,
            partitions=settings.bus_partitions,
            retention=settings.bus_retention,
            replication=settings.bus_replication,
        )
    )


def _tls(settings: StateSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.bus_tls_ca)
    if settings.bus_tls_certificate:
        context.load_cert_chain(settings.bus_tls_certificate, settings.bus_tls_key)
    return context
