"""Logs and metrics of our own processes: JSON lines by structlog, Prometheus metrics.

Log a constant event name with fields; the request id and the like come from the context. What is secret should never be
passed, and is blanked as a last line of defence (shared.blanking).
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.blanking import blanked_field


def configure_logging(*, service: str, level: str) -> None:
    """Send every log line of the process, the standard library's too, to stdout as one JSON object a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _blank_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    handler.addFilter(_Seldom("aiokafka"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # SQL with its parameters and every HTTP request we make would drown the rest, and parameters may be secret.
    for noisy in ("httpx", "httpcore", "sqlalchemy", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


class _Seldom(logging.Filter):
    """Lets a library say the same thing once in ten seconds: with its broker away it would a hundred times a second."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self._library):
            return True
        if record.created - self._said.get(record.msg, 0) < 10:
            return False
        self._said[record.msg] = record.created
        return True


def _blank_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: blanked_field(name, value) for name, value in event.items()}


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
