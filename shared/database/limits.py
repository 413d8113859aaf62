"""What bounds every connection of ours, so that nothing is waited for without an end."""

from typing import Any


def bounded(application: str, **settings: str) -> dict[str, Any]:
    """Arguments for asyncpg.connect. Times are in seconds, those of `server_settings` in milliseconds where bare."""
    return {
        "timeout": 5,
        "command_timeout": 20,  # for a server that is cut off; one that answers ends a statement sooner
        "server_settings": {
            "application_name": application,
            "statement_timeout": "15000",
            "lock_timeout": "10000",
            "idle_in_transaction_session_timeout": "60000",
            # The server drops a client that is cut off, and with it its locks.
            "tcp_keepalives_idle": "15",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "jit": "off",  # our statements are short; compiling them costs more than it saves
            **settings,
        },
    }
