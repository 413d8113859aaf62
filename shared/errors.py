"""The errors that a user may meet, each named after the fact.

    MoorageError
    ├── BadRequest              against the protocol that the route speaks (OAuth 2 asks for 400 where we say 422)
    ├── ValidationFailed        a field is wrong; `problems` says which and why
    ├── InvalidToken            who is calling is not known
    ├── PermissionDenied        known, but may not
    ├── NotFound                is not there, or may not be seen
    │   └── Hidden              is there, but may not be seen: tells the audit log what it must not tell the caller
    ├── Conflict                the world is in a state that forbids it (NameTaken, LimitReached, InUse …)
    ├── VersionConflict         `If-Match` named a state that has moved on
    ├── QuotaExceeded           the group's quota does not hold it
    ├── TooLarge                a body over its limit
    ├── TooManyRequests         come back after `retry_after`
    └── Unavailable             a part that we need is away; nothing was changed

Services raise them and derive their own; `shared.http.problems` alone turns them into HTTP. `code` is stable and has a
page in docs/errors.md; `facts` become members of the problem document. Never put a secret into any of them. A `denial`
is for the audit log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class MoorageError(Exception):
    """Base: `code` and `title` belong to the class, `detail` (what happened, what to do) to the instance."""

    code: ClassVar[str]
    title: ClassVar[str]
    denial: ClassVar[bool] = False

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


@dataclass(frozen=True)
class FieldProblem:
    """One bad field. `pointer` is a JSON pointer into the body, or `query/<name>`, `path/<name>`, `header/<name>`."""

    pointer: str
    message: str


class BadRequest(MoorageError):
    code = "bad_request"
    title = "The request is not valid"


class ValidationFailed(MoorageError):
    code = "validation_failed"
    title = "The request is not valid"

    def __init__(self, problems: Sequence[FieldProblem], detail: str | None = None, **facts: Any) -> None:
        super().__init__(detail or "; ".join(f"{p.pointer}: {p.message}" for p in problems), **facts)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, pointer: str, message: str, **facts: Any) -> "ValidationFailed":
        """The common case of one bad field."""
        return cls([FieldProblem(pointer, message)], **facts)


class InvalidToken(MoorageError):
    code = "invalid_token"
    title = "The caller is not known"
    denial = True
    scheme: ClassVar[str] = "Bearer"


class PermissionDenied(MoorageError):
    code = "permission_denied"
    title = "The caller may not do this"
    denial = True


class NotFound(MoorageError):
    code = "not_found"
    title = "There is no such thing"

    @classmethod
    def named(cls, kind: str, name: object) -> "NotFound":
        return cls(f"There is no {kind} {name!s} that you may see.", kind=kind, name=str(name))


class Hidden(NotFound):
    """Looks to the caller like any NotFound."""

    denial = True


class Conflict(MoorageError):
    code = "conflict"
    title = "The state of the resource forbids this"


class NameTaken(Conflict):
    code = "name_taken"
    title = "The name is taken"


class LimitReached(Conflict):
    code = "limit_reached"
    title = "A limit is reached"


class InUse(Conflict):
    code = "in_use"
    title = "It is still in use"


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"
    title = "The idempotency key was used with another request"


class VersionConflict(MoorageError):
    code = "version_conflict"
    title = "The resource has changed meanwhile"


class QuotaExceeded(MoorageError):
    code = "quota_exceeded"
    title = "The group's quota does not hold this"


class TooLarge(MoorageError):
    code = "too_large"
    title = "The body is too large"


class TooManyRequests(MoorageError):
    code = "too_many_requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: float, **facts: Any) -> None:
        super().__init__(detail, **facts)
        self.retry_after = retry_after


class Unavailable(MoorageError):
    code = "unavailable"
    title = "A part that is needed is away"

    def __init__(self, detail: str, *, retry_after: float = 1.0, **facts: Any) -> None:
        super().__init__(detail, **facts)
        self.retry_after = retry_after
