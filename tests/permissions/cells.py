"""How each action of the table is called so that whoever may succeeds. Method and path are the OpenAPI document's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PATH = {
    "group": "risk",
    "id": "churn",
    "number": "1",
    "client": "ward",
    "user": "spare",
    "account": "robot",
    "model": "kept",
    "instance_type": "idle",
    "runtime": "inference",
}
"""What the parameters of a path are where a cell says nothing else."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`{…}` is one of the world's things: the caller's own, or somebody else's."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    # What the query has in addition where there is no caller.
    link: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    form: Mapping[str, str] | None = None
    content: bytes | None = None
    # Of a list: what it has if the thing is shown.
    shows: str | None = None
    # Who cannot, whatever they may.
    not_for: str = ""
    # What whoever may is told, where more than this world is needed for it to succeed.
    told: str = ""


def filled(value: Any, things: Mapping[str, str]) -> Any:
    match value:
        case str():
            return value.format_map(things)
        case dict():
            return {name: filled(each, things) for name, each in value.items()}
        case list():
            return [filled(each, things) for each in value]
    return value


SIMPLE = Cell()
VERSION = Cell(body={"artifact": "s3://models/x"})
DEPLOYED = {"model": "risk/churn/1"}
BOTH = {"versions": [{"number": 1, "model": "risk/churn/1"}, {"number": 2, "model": "risk/churn/2"}]}
TOKEN = Cell(path={"id": "{token}"})
SIGN_IN = Cell(path={"id": "{sign_in}"})
BYTES = {"Content-Type": "application/octet-stream"}

CELLS: Mapping[str, Cell] = {
    # registry
    "list_groups": Cell(shows='"id":"risk"'),
    "create_group": Cell(body={"id": "new"}),
    "get_group": SIMPLE,
    "update_group": Cell(body={"name": "x"}),
    "update_group.quota_and_switch": Cell(body={"deployment_enabled": True}),
    "delete_group": Cell(path={"group": "empty"}),
    "get_quota": SIMPLE,
    "set_quota": Cell(body={"cpu": 100}),
    "update_quota": Cell(body={"cpu": 100}),
    "list_members": SIMPLE,
    "get_member": Cell(path={"user": "ann"}),
    "put_member": Cell(body={"permission": "read"}),
    "remove_member": Cell(path={"user": "{owner}"}),
    "list_instance_types": Cell(shows='"id":"closed"'),
    "create_instance_type": Cell(body={"id": "new", "cpu": 1, "memory": "1Gi"}),
    "get_instance_type": Cell(path={"instance_type": "closed"}),
    "update_instance_type": Cell(body={"name": "x"}),
    "delete_instance_type": SIMPLE,
    "list_models": Cell(shows='"name":"kept"'),
    "create_model": Cell(body={"group": "risk", "name": "new"}),
    "get_model": SIMPLE,
    "update_model": Cell(body={"description": "x"}),
    "delete_model": SIMPLE,
    "list_model_versions": SIMPLE,
    "create_model_version": VERSION,
    "register_run": Cell(path={"run": "nightly"}, body=VERSION.body),
    "import_mlflow": Cell(body={"artifact": "{mlflow}"}),
    "get_model_version": SIMPLE,
    "delete_model_version": SIMPLE,
    "get_curve": Cell(path={"name": "loss"}),
    "download_version": SIMPLE,
    "download_version_part": Cell(path={"number": "2", "key": "encoder"}),
    "upload_artifact": Cell(headers=BYTES, content=b"bytes"),
    "fetch_artifact": Cell(body={"uri": "{web}"}),
    "download_artifact": Cell(path={"digest": "{digest}"}, link={"expires": "{expires}", "signature": "{signature}"}),
    "begin_upload": SIMPLE,
    "upload_progress": SIMPLE,
    "get_upload": SIMPLE,
    "append_to_upload": Cell(headers={**BYTES, "Upload-Offset": "0"}, content=b"bytes"),
    "cancel_upload": SIMPLE,
    # deployer
    "create_deployment": Cell(body={"group": "risk", **DEPLOYED}),
    "list_deployments": Cell(shows='"id":"churn"'),
    "get_deployment": SIMPLE,
    "put_deployment": Cell(body=BOTH),
    "update_deployment": Cell(body={"description": "x"}),
    "delete_deployment": SIMPLE,
    "stop_deployment": SIMPLE,
    "start_deployment": SIMPLE,
    "redeploy_deployment": SIMPLE,
    "roll_back_deployment": Cell(body={"revision": 2}),
    "list_versions": SIMPLE,
    "get_version": SIMPLE,
    "add_version": Cell(body=DEPLOYED),
    "replace_version": Cell(body=DEPLOYED),
    "update_version": Cell(body={"replicas": 2}),
    "delete_version": SIMPLE,
    "list_revisions": SIMPLE,
    "get_revision": SIMPLE,
    "list_replicas": SIMPLE,
    "get_replica": Cell(path={"replica": "{replica}"}),
    "get_replica_log": Cell(path={"replica": "{replica}"}),
    "list_steps": SIMPLE,
    "list_runtimes": SIMPLE,
    "get_runtime": SIMPLE,
    # gateway
    "create_token": Cell(
        form={"grant_type": "client_credentials", "client_id": "nightly", "client_secret": "{secret}"}
    ),
    "revoke_token": Cell(form={"token": "none"}),
    "list_providers": SIMPLE,
    "begin_login": Cell(told="404 not_found"),  # there is no identity provider
    "finish_login": Cell(path={"provider": "none"}, query={"state": "none"}, told="400 login_expired"),
    "list_keys": SIMPLE,
    "get_me": SIMPLE,
    "change_my_password": Cell(body={"current": "a password", "new": "a password"}, not_for="service account"),
    "list_sign_ins": Cell(query={"user": "{owner}"}, shows='"user":"{owner}"'),
    "end_sign_ins": Cell(query={"user": "{owner}"}),
    "get_sign_in": SIGN_IN,
    "end_sign_in": SIGN_IN,
    "list_users": SIMPLE,
    "create_user": Cell(body={"user": "new"}),
    "get_user": Cell(path={"user": "{owner}"}),
    "update_user": Cell(body={"display_name": "x"}),
    "update_user.password": Cell(body={"password": "a password"}),
    "delete_user": SIMPLE,
    "list_access_tokens": Cell(query={"user": "{owner}"}, shows='"user":"{owner}"'),
    "create_access_token": Cell(body={"name": "new", "scopes": ["*:read"]}),
    "get_access_token": TOKEN,
    "revoke_access_token": TOKEN,
    "list_service_accounts": SIMPLE,
    "create_service_account": Cell(body={"name": "new"}),
    "get_service_account": SIMPLE,
    "rotate_service_account": SIMPLE,
    "delete_service_account": SIMPLE,
    "list_audit_entries": Cell(query={"user": "{owner}"}, shows='"user":"{owner}"'),
    "list_clients": SIMPLE,
    "create_client": Cell(body={"name": "new"}),
    "get_client": SIMPLE,
    "rotate_client": SIMPLE,
    "revoke_client": SIMPLE,
    "get_endpoint": SIMPLE,
    # metrics
    "get_deployment_metrics": SIMPLE,
    "get_deployment_metrics_summary": SIMPLE,
    "get_metrics": Cell(query={"by": "deployment"}, shows='"deployment":"churn"'),
    "get_metrics_summary": Cell(shows='"deployment":"churn"'),
}
