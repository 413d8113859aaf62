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
    ├── UnsupportedMediaType    a body that says it is something else than what is taken
    ├── RangeNotSatisfiable     the bytes end before the range that is asked for
    ├── TooManyRequests         come back after `retry_after`
    └── Unavailable             a part that we need is away; nothing was changed

Services raise them and derive their own; `shared.http.problems` alone turns them into HTTP. `code` is stable and has a
page in docs/errors.md; `facts` become members of the problem document. Never put a secret into any of them. A `denial`
is for the audit log. `example` is one as a user may meet it: the description of the API shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


class MoorageError(Exception):
    """Base: `code` and `title` belong to the class, `detail` (what happened, what to do) to the instance."""

    code: ClassVar[str]
    title: ClassVar[str]
    denial: ClassVar[bool] = False

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts

    @classmethod
    def example(cls) -> Self:
        return cls(f"{cls.title}.")


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
        super().__init__(detail or "; ".join(f"{p.pointer or 'the body'}: {p.message}" for p in problems), **facts)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, pointer: str, message: str, **facts: Any) -> Self:
        """The common case of one bad field."""
        return cls([FieldProblem(pointer, message)], **facts)

    @classmethod
    def example(cls) -> Self:
        return cls.of("/replicas/max", "Input should be less than or equal to 1000")


class InvalidToken(MoorageError):
    code = "invalid_token"
    title = "The caller is not known"
    denial = True
    scheme: ClassVar[str] = "Bearer"

    @classmethod
    def example(cls) -> Self:
        return cls("The access token has expired; get a new one with your refresh token.")


class PermissionDenied(MoorageError):
    code = "permission_denied"
    title = "The caller may not do this"
    denial = True

    @classmethod
    def example(cls) -> Self:
        detail = "You need the permission edit on group risk; ask one of its managers."
        return cls(detail, permission="edit", group="risk")


class NotFound(MoorageError):
    code = "not_found"
    title = "There is no such thing"

    @classmethod
    def named(cls, kind: str, name: object) -> Self:
        return cls(f"There is no {kind} {name!s} that you may see.", kind=kind, name=str(name))

    @classmethod
    def example(cls) -> Self:
        return cls.named("group", "risk")


class Hidden(NotFound):
    """Looks to the caller like any NotFound."""

    denial = True


class Conflict(MoorageError):
    code = "conflict"
    title = "The state of the resource forbids this"


class NameTaken(Conflict):
    code = "name_taken"
    title = "The name is taken"

    @classmethod
    def example(cls) -> Self:
        return cls("There is a group risk already; choose another id.", id="risk")


class LimitReached(Conflict):
    code = "limit_reached"
    title = "A limit is reached"

    @classmethod
    def example(cls) -> Self:
        return cls("You have 50 access tokens; revoke one first.", limit=50)


class InUse(Conflict):
    code = "in_use"
    title = "It is still in use"

    @classmethod
    def example(cls) -> Self:
        detail = "risk/churn/3 is in use by churn; change or delete these deployments first."
        return cls(detail, deployments=["churn"], hidden=0)


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"
    title = "The idempotency key was used with another request"


class VersionConflict(MoorageError):
    code = "version_conflict"
    title = "The resource has changed meanwhile"

    @classmethod
    def example(cls) -> Self:
        detail = "The resource has changed since you read it; read it again and repeat your change."
        return cls(detail, etag='"4"')


class QuotaExceeded(MoorageError):
    code = "quota_exceeded"
    title = "The group's quota does not hold this"

    @classmethod
    def example(cls) -> Self:
        return cls(
            "The quota of group risk does not hold this: cpu: 4 requested, 14 used, limit 16.",
            requested={"cpu": 4, "memory": 8 * 2**30, "gpu": 0, "deployments": 1},
            used={"cpu": 14, "memory": 28 * 2**30, "gpu": 0, "deployments": 3},
            limit={"cpu": 16, "memory": 64 * 2**30, "gpu": None, "deployments": 10},
        )


class TooLarge(MoorageError):
    code = "too_large"
    title = "The body is too large"


class UnsupportedMediaType(MoorageError):
    code = "unsupported_media_type"
    title = "The media type is not supported"

    @classmethod
    def example(cls) -> Self:
        return cls("Send the body as `Content-Type: application/json`.")


class RangeNotSatisfiable(MoorageError):
    code = "range_not_satisfiable"
    title = "The range is not within the bytes"

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail, size=size)
        self.size = size

    @classmethod
    def example(cls) -> Self:
        return cls("The range is not within the bytes, of which there are 1048576.", size=1048576)


class TooManyRequests(MoorageError):
    code = "too_many_requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: float, **facts: Any) -> None:
        super().__init__(detail, **facts)
        self.retry_after = retry_after

    @classmethod
    def example(cls) -> Self:
        return cls("Too many sign-ins have failed from your address; wait before you try again.", retry_after=30)


class Unavailable(MoorageError):
    code = "unavailable"
    title = "A part that is needed is away"

    def __init__(self, detail: str, *, retry_after: float = 1.0, **facts: Any) -> None:
        super().__init__(detail, **facts)
        self.retry_after = retry_after
