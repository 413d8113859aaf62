"""What PostgreSQL refuses, said in our own errors.

Services check what they can before; this is for what only the database finds: a character or number that it has no
place for, and two requests that are right each but not together. What it says itself is never passed on, nor logged
whole, since it quotes the row, and a row may hold what is secret.
"""

import traceback

import asyncpg
from sqlalchemy.exc import DBAPIError

from shared.errors import Conflict, MoorageError, Unavailable, ValidationFailed
from shared.telemetry import get_logger

log = get_logger(__name__)

_VALUE = frozenset(
    {
        "22001",  # string_data_right_truncation
        "22003",  # numeric_value_out_of_range
        "22021",  # character_not_in_repertoire: NUL
        "22P02",  # invalid_text_representation: JSON with NaN or half a surrogate pair
        "22P05",  # untranslatable_character: NUL within JSON
        "54000",  # program_limit_exceeded: too long for its index
    }
)
_CLASH = frozenset(
    {
        "23503",  # foreign_key_violation: it was deleted meanwhile
        "23505",  # unique_violation: somebody made it meanwhile
    }
)
_BUSY = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available: waited for longer than lock_timeout
        "57014",  # query_canceled: ran for longer than statement_timeout
    }
)


def translate(error: DBAPIError) -> MoorageError | None:
    """None for a mistake of ours."""
    said = error.orig.__cause__ if error.orig else None
    state = getattr(said, "sqlstate", None)
    constraint = getattr(said, "constraint_name", None)
    # The driver refuses some values by itself.
    if state in _VALUE or isinstance(said, asyncpg.DataError):
        log.info("request.value_refused", sqlstate=state)
        return ValidationFailed([], "A value holds a character, or is a number, that cannot be stored or looked up.")
    if state in _CLASH:
        log.warning("request.clash", sqlstate=state, constraint=constraint)
        return Conflict("Something that this depends on was changed at the same moment; read it again and repeat.")
    if state in _BUSY:
        log.warning("request.busy", sqlstate=state)
        return Unavailable("The database is busy with the same things; nothing was changed. Try again.")
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error(
        "request.database_error", error=type(said).__name__, sqlstate=state, constraint=constraint, traceback=where
    )
    return None
