"""Who may do what: one table for all four services. Pure; `shared.http.auth` applies it, docs/permissions.md shows it.

An action is a route, called as its function is: that is its operation id, and its name in the audit log. With a dot it
is a part of a route that needs more than the rest of it. Left out: what the state of things forbids (the last manager,
what is in use), and what an installation's policy leaves to its admins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto


class Permission(IntEnum):
    """On a group; each holds the ones before it. Platform admins hold theirs on every group."""

    NONE = 0
    READ = 1
    EDIT = 2
    MANAGE = 3
    ADMIN = 4

    @classmethod
    def parse(cls, name: str) -> "Permission":
        return cls[name.upper()]

    def __str__(self) -> str:
        return self.name.lower()


NONE, READ, EDIT, MANAGE, ADMIN = Permission


class Check(Enum):
    """Where the permission on a thing's group is looked at."""

    NOWHERE = auto()  # there is no thing, or none that makes a difference
    HANDLER = auto()  # has found the thing, and asks `Caller.require`
    QUERY = auto()  # leaves out what is not in `Caller.visible_groups`


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What an action needs. Before its handler runs: a caller, a sign-in, a permission on any group at all. Then on the
    group of the thing: `own` if the caller has made it, else `others`; None is what nobody holds.
    """

    caller: bool = True  # False: anybody may, or whoever has a signed link
    sign_in: bool = False  # no personal access token will do
    somewhere: Permission = NONE
    check: Check = Check.NOWHERE
    see: Permission = READ  # with less, somebody else's thing is not there
    own: Permission = NONE
    others: Permission | None = NONE

    def needed(self, *, own: bool) -> Permission | None:
        return self.own if own else self.others


Rules = Mapping[str, Rule]

ANYBODY = Rule(caller=False)
CALLERS = Rule()
ADMINS = Rule(somewhere=ADMIN)


def signed_in(rule: Rule) -> Rule:
    """For what has to do with credentials: a token that leaked must not make further ones."""
    return replace(rule, sign_in=True)


def somewhere(permission: Permission) -> Rule:
    return Rule(somewhere=permission)


def on_group(permission: Permission, *, own: Permission | None = None) -> Rule:
    return Rule(check=Check.HANDLER, own=permission if own is None else own, others=permission)


def on_platform(permission: Permission) -> Rule:
    """A thing of no group, by a query that has left out what may not be seen."""
    return replace(on_group(permission), see=NONE)


def owners(*, also: Permission | None = None, somewhere: Permission = NONE) -> Rule:
    """A user's thing, of no group; for all others it is not there."""
    return Rule(check=Check.HANDLER, somewhere=somewhere, see=ADMIN, own=NONE, others=also)


def shows(permission: Permission, *, own: Permission | None = None) -> Rule:
    """Open to every caller; what they see are the things of the groups where they hold `permission`."""
    return replace(on_group(permission, own=own), check=Check.QUERY, see=permission)


TABLE: Mapping[str, Rules] = {
    "registry": {
        "list_groups": shows(READ),
        "create_group": ADMINS,
        "get_group": on_group(READ),
        "update_group": on_group(MANAGE),
        "update_group.quota_and_switch": on_group(ADMIN),
        "delete_group": on_group(ADMIN),
        "get_quota": on_group(READ),
        "set_quota": on_group(ADMIN),
        "update_quota": on_group(ADMIN),
        "list_members": on_group(READ),
        "get_member": on_group(READ),
        "put_member": on_group(MANAGE),
        "remove_member": on_group(MANAGE, own=READ),  # whoever is a member may leave
        "list_instance_types": shows(READ),
        "create_instance_type": ADMINS,
        "get_instance_type": shows(READ),
        "update_instance_type": on_platform(ADMIN),
        "delete_instance_type": on_platform(ADMIN),
        "list_models": shows(READ),
        "create_model": on_group(EDIT),
        "get_model": on_group(READ),
        "update_model": on_group(EDIT),
        "delete_model": on_group(MANAGE, own=EDIT),
        "list_model_versions": on_group(READ),
        "create_model_version": on_group(EDIT),
        "register_run": on_group(EDIT),
        "import_mlflow": on_group(EDIT),
        "get_model_version": on_group(READ),
        "delete_model_version": on_group(MANAGE, own=EDIT),
        "get_curve": on_group(READ),
        "download_version": on_group(READ),
        "download_version_part": on_group(READ),
        "upload_artifact": somewhere(EDIT),
        "fetch_artifact": somewhere(EDIT),
        "download_artifact": replace(shows(READ, own=NONE), caller=False),
        "begin_upload": somewhere(EDIT),
        "upload_progress": owners(),
        "get_upload": owners(),
        "append_to_upload": owners(somewhere=EDIT),
        "cancel_upload": owners(),
    },
    "deployer": {
        "create_deployment": on_group(EDIT),
        "list_deployments": shows(READ),
        "get_deployment": on_group(READ),
        "put_deployment": on_group(EDIT),
        "update_deployment": on_group(EDIT),
        "delete_deployment": on_group(MANAGE, own=EDIT),
        "stop_deployment": on_group(MANAGE, own=EDIT),
        "start_deployment": on_group(EDIT),
        "redeploy_deployment": on_group(EDIT),
        "roll_back_deployment": on_group(EDIT),
        "list_versions": on_group(READ),
        "get_version": on_group(READ),
        "add_version": on_group(EDIT),
        "replace_version": on_group(EDIT),
        "update_version": on_group(EDIT),
        "delete_version": on_group(MANAGE, own=EDIT),  # also of a change that leaves a version out
        "list_revisions": on_group(READ),
        "get_revision": on_group(READ),
        "list_replicas": on_group(READ),
        "get_replica": on_group(READ),
        "get_replica_log": on_group(READ),
        "list_steps": on_group(READ),
        "list_runtimes": CALLERS,
        "get_runtime": CALLERS,
    },
    "gateway": {
        "create_token": ANYBODY,
        "revoke_token": ANYBODY,
        "list_providers": ANYBODY,
        "begin_login": ANYBODY,
        "finish_login": ANYBODY,
        "list_keys": ANYBODY,
        "get_me": CALLERS,
        "change_my_password": signed_in(CALLERS),
        "list_sign_ins": shows(ADMIN, own=NONE),
        "end_sign_ins": owners(also=ADMIN),
        "get_sign_in": owners(also=ADMIN),
        "end_sign_in": owners(also=ADMIN),
        "list_users": ADMINS,
        "create_user": signed_in(ADMINS),
        "get_user": owners(also=ADMIN),
        "update_user": ADMINS,
        "update_user.password": signed_in(ADMINS),
        "delete_user": ADMINS,
        "list_access_tokens": shows(ADMIN, own=NONE),
        "create_access_token": signed_in(CALLERS),
        "get_access_token": owners(also=ADMIN),
        "revoke_access_token": owners(also=ADMIN),
        "list_service_accounts": ADMINS,
        "create_service_account": signed_in(ADMINS),
        "get_service_account": ADMINS,
        "rotate_service_account": signed_in(ADMINS),
        "delete_service_account": ADMINS,
        "list_audit_entries": shows(MANAGE, own=NONE),
        "list_clients": on_group(READ),
        "create_client": on_group(EDIT),
        "get_client": on_group(READ),
        "rotate_client": on_group(EDIT),
        "revoke_client": on_group(EDIT),
        "get_endpoint": on_group(READ),
    },
    "metrics": {
        "get_deployment_metrics": on_group(READ),
        "get_deployment_metrics_summary": on_group(READ),
        "get_metrics": shows(READ),
        "get_metrics_summary": shows(READ),
    },
}
"""The actions of each service."""
