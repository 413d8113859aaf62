"""A client that a standard generator makes of docs/openapi.json does the main job, with typed answers and problems."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from deploy.demo.journey import EXAMPLES, pack
from deploy.openapi import FILE
from tests.support.platform import RunningPlatform

GROUP, MODEL, DEPLOYMENT = "typed", "whoami", "typed-whoami"


class Generated:
    """The package, and a call to each operation by its tag and id; with `token`, once there is one."""

    def __init__(self, url: str, package: ModuleType) -> None:
        self.models = importlib.import_module(f"{package.__name__}.models")
        self.types = importlib.import_module(f"{package.__name__}.types")
        self.token: str | None = None
        self._package = package
        self._url = url

    def call(self, operation: str, *path: Any, **options: Any) -> Any:
        """Of `tag.operation_id`: the answer as it was parsed, whatever its status."""
        module = importlib.import_module(f"{self._package.__name__}.api.{operation}")
        settings = {"base_url": self._url, "timeout": httpx.Timeout(30)}
        made = self._package.Client(**settings)
        if self.token:
            made = self._package.AuthenticatedClient(**settings, token=self.token)
        with made as client:
            return module.sync_detailed(*path, client=client, **options).parsed

    def make(self, model: str, /, **fields: Any) -> Any:
        """A body, from JSON."""
        return getattr(self.models, model).from_dict(fields)

    def expect(self, model: str, operation: str, *path: str, **options: Any) -> Any:
        answer = self.call(operation, *path, **options)
        assert type(answer) is getattr(self.models, model), answer
        return answer


@pytest.fixture(scope="module")
def generated(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    folder = tmp_path_factory.mktemp("generated")
    # The generator formats what it writes with ruff, which lies beside it.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(FILE), "--meta", "none"]
    command += ["--output-path", str(folder / "moorage_client"), "--fail-on-warning"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return Generated(platform.here.url, importlib.import_module("moorage_client"))


def test_the_main_job(generated: Generated, platform: RunningPlatform) -> None:
    call, make, expect = generated.call, generated.make, generated.expect
    models = generated.models

    form = make("BodyCreateToken", grant_type="password", username="admin", password="wrong")
    assert expect("OAuthProblem", "sign_in.create_token", body=form).error == "invalid_grant"
    assert expect("Problem", "users.get_me").code == "invalid_token"
    form = make("BodyCreateToken", grant_type="password", username="admin", password=platform.password)
    generated.token = expect("TokenAnswer", "sign_in.create_token", body=form).access_token
    assert expect("Me", "users.get_me").admin is True

    body = make("GroupCreate", id=GROUP, quota={"cpu": "2", "memory": "4Gi"})
    assert expect("GroupView", "groups.create_group", body=body).quota.memory == 4 * 2**30
    taken = expect("Problem", "groups.create_group", body=body)
    assert (taken.status, taken.code, taken["id"]) == (409, "name_taken", GROUP)
    body = make("InstanceTypeCreate", id="typed-size", cpu="100m", memory="256Mi", groups=[GROUP])
    assert expect("InstanceTypeDetail", "instance_types.create_instance_type", body=body).cpu == 0.1

    digest = register(generated)
    page = expect("PageModelView", "models.list_models", tag=["probe"], group=[GROUP])
    assert [(found.name, found.aliases["champion"]) for found in page.items] == [(MODEL, 1)]
    assert page.next_ is None

    deploy(generated, platform, digest)

    body = make("NewAccessToken", name="typed", scopes=[f"{GROUP}:read"])
    token = expect("NewAccessTokenView", "access_tokens.create_access_token", body=body)
    entries = expect("PageEntryView", "audit.list_audit_entries", group=[GROUP], action=["create_deployment"]).items
    assert [(entry.outcome, entry.user) for entry in entries] == [(models.EntryViewOutcome.DONE, "admin")]

    body = make("Action", message="done")
    assert expect("DeploymentView", "deployments.stop_deployment", DEPLOYMENT, body=body).stopped is True
    assert call("deployments.delete_deployment", DEPLOYMENT, wait=wait_settled(generated)) is None
    assert expect("Problem", "deployments.get_deployment", DEPLOYMENT).code == "not_found"
    assert call("access_tokens.revoke_access_token", token.id) is None
    assert call("models.delete_model", GROUP, MODEL) is None
    assert call("instance_types.delete_instance_type", "typed-size") is None


def register(generated: Generated) -> str:
    """The digest of what is a version then."""
    make, expect = generated.make, generated.expect
    archive = pack(EXAMPLES / "whoami")
    upload = generated.types.File(payload=io.BytesIO(archive))
    whole = expect("ArtifactView", "artifacts.upload_artifact", body=upload)
    begun = expect("UploadView", "artifacts.begin_upload", upload_length=len(archive))
    half = generated.types.File(payload=io.BytesIO(archive[: len(archive) // 2]))
    assert generated.call("artifacts.append_to_upload", begun.id, body=half, upload_offset=0) is None
    offset = expect("UploadView", "artifacts.get_upload", begun.id).offset
    rest = generated.types.File(payload=io.BytesIO(archive[offset:]))
    in_parts = expect(
        "ArtifactView", "artifacts.append_to_upload", begun.id, body=rest, upload_offset=offset, upload_complete="?1"
    )
    assert in_parts == whole
    broken = generated.types.File(payload=io.BytesIO(archive[:-9]))
    assert expect("Problem", "artifacts.upload_artifact", body=broken).code == "bad_archive"

    body = make("ModelCreate", group=GROUP, name=MODEL, tags=["probe"], framework="python")
    expect("ModelView", "models.create_model", body=body)
    body = make("VersionCreate", artifact="ftp://models/x")
    refused = expect("Problem", "model_versions.create_model_version", GROUP, MODEL, body=body)
    assert (refused.code, isinstance(refused["supported"], list)) == ("unsupported_scheme", True)
    curves = {"loss": [[1, 0.7], [2, None]]}
    body = make("VersionCreate", artifact=whole.uri, metrics={"auc": 0.91}, curves=curves, parameters={"depth": 6})
    version = expect("VersionView", "model_versions.create_model_version", GROUP, MODEL, body=body)
    assert (version.number, version.artifact, version.digest) == (1, whole.uri, whole.digest)
    assert version.metrics["auc"] == 0.91
    assert version.curves["loss"] == [[1, 0.7], [2, None]]
    body = make("ModelPatch", aliases={"champion": 1})
    expect("ModelView", "models.update_model", GROUP, MODEL, body=body)
    pulled = generated.call("model_versions.download_version", GROUP, MODEL, 1)
    assert pulled.payload.read() == archive
    return str(version.digest)


def deploy(generated: Generated, platform: RunningPlatform, digest: str) -> None:
    make, expect, models = generated.make, generated.expect, generated.models
    settled = wait_settled(generated)
    body = make("PostDeployment", id=DEPLOYMENT, model=f"{GROUP}/{MODEL}@champion", instance_type="typed-size", env={})
    made = expect("DeploymentView", "deployments.create_deployment", body=body, wait=settled, idempotency_key="typed-1")
    assert made.status.phase == models.StatusPhase.DEPLOYED, made
    again = expect("DeploymentView", "deployments.create_deployment", body=body, idempotency_key="typed-1")
    assert again.uid == made.uid
    assert (made.versions[0].replicas.max_, made.status.versions[0].digest) == (1, digest)

    body = make("PatchDeployment", description="typed", metadata={"team": "api"})
    changed = expect("DeploymentView", "deployments.update_deployment", DEPLOYMENT, body=body, if_match='"1"')
    assert (changed.description, changed.metadata["team"], changed.generation) == ("typed", "api", 2)
    moved = expect("Problem", "deployments.update_deployment", DEPLOYMENT, body=body, if_match='"1"')
    assert (moved.code, moved["etag"]) == ("version_conflict", '"2"')
    body = make("PatchVersion", replicas=1000)
    refused = expect("Problem", "versions.update_version", DEPLOYMENT, 1, body=body)
    assert (refused.code, refused["limit"]["cpu"]) == ("quota_exceeded", 2)
    body = make("PatchVersion", replicas={"max": 2})
    assert expect("DeploymentView", "versions.update_version", DEPLOYMENT, 1, body=body).versions[0].replicas.max_ == 2

    listed = expect("PageDeploymentView", "deployments.list_deployments", group=[GROUP], mine=True, count=True)
    assert (listed.total, [found.id for found in listed.items]) == (1, [DEPLOYMENT])
    history = expect("PageRevisionView", "revisions.list_revisions", DEPLOYMENT).items
    assert [revision.number for revision in history] == [3, 2, 1]
    assert expect("QuotaView", "groups.get_quota", GROUP).by[0].deployment == DEPLOYMENT
    assert expect("Endpoint", "endpoint.get_endpoint", DEPLOYMENT).url.startswith(platform.here.url)

    body = make("NewClient", name="batch")
    client = expect("NewClientView", "clients.create_client", DEPLOYMENT, body=body)
    answer = platform.http.get(f"/deployment/{DEPLOYMENT}/readyz", headers={"Authorization": f"Bearer {client.token}"})
    assert answer.status_code == 200
    log = expect("PageReplicaView", "replicas.list_replicas", DEPLOYMENT).items
    assert "Z " in generated.call("replicas.get_replica_log", DEPLOYMENT, log[0].id)
    assert expect("Metrics", "metrics.get_deployment_metrics", DEPLOYMENT).step > 0
    assert expect("Summary", "metrics.get_deployment_metrics_summary", DEPLOYMENT).total.requests >= 0


def wait_settled(generated: Generated) -> Any:
    return generated.models.CreateDeploymentWait.SETTLED
