"""Who calls, and what they may.

The token says who; the rows say what, read anew for each request, so a user who has signed out, was disabled or removed
from a group is so at once and in every service. A personal access token is itself a row, read with them; its scopes
leave some of what its user may at that moment. What an action needs, `shared.permissions` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from shared import access_tokens
from shared.access_tokens import Reach
from shared.database import Row
from shared.errors import Hidden, InvalidToken, PermissionDenied
from shared.permissions import Check, Permission, Rules

_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Caller:
    """A signed-in user, in the middle of an action."""

    user: str
    admin: bool = False
    permissions: Mapping[str, Permission] = field(default_factory=dict)
    # What they call with: the access token of a sign-in, or a personal one.
    sign_in: UUID | None = None
    token: UUID | None = None
    # What they are about, and what that and others of the service need.
    action: str = ""
    rules: Rules = field(default_factory=dict)
    # The groups that something was required on (None: a thing of no group), for the audit log.
    asked: list[str | None] = field(default_factory=list, compare=False)

    def on(self, group: str | None) -> Permission:
        """What they hold on a group; None stands for what belongs to none."""
        if self.admin:
            return Permission.ADMIN
        return Permission.NONE if group is None else self.permissions.get(group, Permission.NONE)

    def sees(self, group: str) -> bool:
        return self.on(group) >= Permission.READ

    @property
    def visible_groups(self) -> frozenset[str] | None:
        """The groups whose things the action shows the caller; None: all of them."""
        if self.admin:
            return None
        least = self.rules[self.action].see
        return frozenset(group for group, held in self.permissions.items() if held >= least)

    def require(
        self, group: str | None, *, kind: str, name: object, own: bool = False, action: str | None = None
    ) -> None:
        """That they may do it to a thing of `group`, `own` if they have made it; or what it comes to, another `action`.

        Raises NotFound for what they may not see, PermissionDenied for what they may see but not do.
        """
        self.asked.append(group)
        rule = self.rules[action or self.action]
        held, needed = self.on(group), rule.needed(own=own)
        if needed is None or held < min(needed, rule.see):
            raise Hidden.named(kind, name)
        if held < needed:
            raise _lacks(needed, group)

    def require_action(self, action: str) -> None:
        """What it needs whatever it is about. No handler runs without; for a part of its action it has to ask."""
        rule = self.rules[action]
        if rule.somewhere and not self.admin and max(self.permissions.values(), default=0) < rule.somewhere:
            raise _lacks(rule.somewhere, None)
        if rule.sign_in and self.token is not None:
            raise PermissionDenied("This needs an access token of a sign-in, not a personal one.", permission="sign-in")

    @property
    def has_asked(self) -> bool:
        """Whether the handler has required what its action has it require."""
        return bool(self.asked) or self.rules[self.action].check is not Check.HANDLER


def _lacks(permission: Permission, group: str | None) -> PermissionDenied:
    """None: on any group."""
    if permission is Permission.ADMIN:
        return PermissionDenied("Only platform admins may do this.", permission="admin")
    if group is None:
        return PermissionDenied(f"You need the permission {permission!s} on some group.", permission=str(permission))
    return PermissionDenied(
        f"You need the permission {permission!s} on group {group}; ask one of its managers.",
        permission=str(permission),
        group=group,
    )


_SIGNED_IN = """
    SELECT u.id, u.admin, u.disabled, m.group_id, m.permission
    FROM sign_ins s JOIN users u ON u.id = s.user_id LEFT JOIN members m ON m.user_id = u.id
    WHERE s.id = $1
"""
_PERSONAL = """
    SELECT u.id, u.admin, u.disabled, m.group_id, m.permission, t.id AS token, t.scopes
    FROM access_tokens t JOIN users u ON u.id = t.user_id LEFT JOIN members m ON m.user_id = u.id
    WHERE t.sha256 = $1 AND t.expires_at > clock_timestamp()
"""

_bearer = HTTPBearer(auto_error=False, description="access token from POST /api/v1/auth/token, or a personal one")


async def authenticate(request: Request) -> Caller:
    """The caller by the request's Bearer token, read once a request. Raises InvalidToken, PermissionDenied."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known:
        return known
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise InvalidToken("Send an access token as `Authorization: Bearer …`; POST /api/v1/auth/token gives one.")
    by = _by_personal_token if token.strip().startswith(access_tokens.PREFIX) else _by_sign_in
    found = await by(request, token.strip())
    action = request.state.action
    caller = request.state.caller = replace(found, action=action, rules=request.app.state.rules)
    bind_contextvars(user=caller.user)
    caller.require_action(action)
    return caller


async def _by_sign_in(request: Request, token: str) -> Caller:
    access = await request.app.state.core.verifier.verify(token)
    user = request.state.user = access.user
    rows = await request.app.state.core.direct.fetch(_SIGNED_IN, access.sign_in)
    if not rows or rows[0].disabled or rows[0].id != user:
        raise InvalidToken("The sign-in that this access token came of has ended; sign in again.")
    permissions = {row.group_id: Permission.parse(row.permission) for row in rows if row.group_id}
    return Caller(user=user, admin=rows[0].admin, permissions=permissions, sign_in=access.sign_in)


async def _by_personal_token(request: Request, token: str) -> Caller:
    rows: list[Row] = []
    if access_tokens.is_token(token):
        rows = await request.app.state.core.direct.fetch(_PERSONAL, access_tokens.sha256(token))
    if not rows or rows[0].disabled:
        raise InvalidToken("This personal access token is not known, has expired, or its user is disabled.")
    user = request.state.user = rows[0].id
    reach = Reach.of(rows[0].scopes)
    permissions = {}
    for row in rows:
        if row.group_id and (most := reach.permission(row.group_id)):
            permissions[row.group_id] = min(Permission.parse(row.permission), Permission.parse(most))
    caller = Caller(user=user, admin=rows[0].admin and reach.admin, permissions=permissions, token=rows[0].token)
    if reach.changes_nothing and request.method not in _READS:
        request.state.caller = caller  # known, for the audit log
        raise PermissionDenied("The scopes of this personal access token let it read only.", permission="edit")
    request.app.state.core.last_uses.note(caller.token)
    return caller


def needs_caller(dependant: Dependant) -> bool:
    """Whether a route, or anything that it depends on, declares `CurrentCaller`."""
    return dependant.call is _current_caller or any(needs_caller(each) for each in dependant.dependencies)


async def _current_caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    return await authenticate(request)


CurrentCaller = Annotated[Caller, Depends(_current_caller)]
