"""PostgreSQL: sessions (`engine`), single statements (`direct`), hints that something has changed (`hints`), and which
errors mean that it is away (`outages`)."""

from shared.database.direct import Direct, Row
from shared.database.engine import Sessions, create_engine, create_sessions
from shared.database.hints import HINTS, Hints
from shared.database.outages import is_disconnect

__all__ = ["HINTS", "Direct", "Hints", "Row", "Sessions", "create_engine", "create_sessions", "is_disconnect"]
