"""Resolves what a request refers to (models, instance types, secrets) into exact versions of a spec.

It writes nothing, but holds what it has found until the transaction ends."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.deployer.deployments import queries
from services.deployer.deployments.container import PullSecret, Secret
from services.deployer.deployments.domain import (
    PullSecretSpec,
    ReplicaCount,
    SealedValue,
    Size,
    VersionSpec,
    model_reference,
    moved_secrets,
)
from services.deployer.deployments.policy import Policy
from services.deployer.deployments.schemas import VersionBody
from services.deployer.deployments.secrets import EnvVault
from services.deployer.errors import AddressTaken
from services.deployer.runtimes.catalogue import RUNTIMES
from shared.errors import ValidationFailed
from shared.http import Caller

__all__ = ["Resolver"]

Given = str | Secret


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A model version, found."""

    model: str
    alias: str | None
    digest: str | None
    artifact: Any
    size: int | None
    framework: str


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """For one request of `caller` about a deployment of `group`: `uid`, if it is there yet."""

    session: AsyncSession
    caller: Caller
    group: str
    uid: UUID | None
    vault: EnvVault
    policy: Policy

    async def version(
        self, body: VersionBody, *, number: int, standing: VersionSpec | None, pointer: str, moved_alias: bool = True
    ) -> VersionSpec:
        """What `body` says about version `number`, of which `standing` is the present state, if it lives.

        `moved_alias` says whether a reference that reads as it stands is looked up again.
        """
        same = standing is not None and body.model == model_reference(standing)
        if standing is not None and same and not moved_alias:
            model = _standing_model(standing)
        else:
            model = await self._model(body.model, pointer=f"{pointer}/model")
        self._check_runtime(body.runtime, model, pointer=pointer)
        if standing is not None and body.instance_type in (None, standing["instance_type"]):
            # Sizes are those of the day it was chosen: an instance type that was changed or removed moves nothing.
            instance_type, size = standing["instance_type"], standing["resources"]
        else:
            instance_type, size = await self._instance_type(body.instance_type, pointer=f"{pointer}/instance_type")
        replicas: ReplicaCount = {"min": 1, "max": 1}
        if body.replicas is not None:
            replicas = {"min": body.replicas.min, "max": body.replicas.max}
        elif standing is not None:
            replicas = standing["replicas"]
        env = self.env(body.env, standing=standing, pointer=f"{pointer}/env")
        moved = standing is not None and moved_secrets(standing["env"], env)
        version: VersionSpec = {
            "number": number,
            "model": model.model,
            "alias": model.alias,
            "digest": model.digest,
            "artifact": model.artifact,
            "size": model.size,
            "framework": model.framework,
            "runtime": body.runtime,
            "instance_type": instance_type,
            "resources": size,
            "replicas": replicas,
            "env": env,
            "restart": standing["restart"] + moved if standing else 0,
        }
        if body.image is not None:
            version["image"] = body.image
        if body.image_pull_secret is not None:
            given = body.image_pull_secret
            version["image_pull_secret"] = self._pull_secret(
                given, standing=standing, pointer=f"{pointer}/image_pull_secret"
            )
        if body.config_files:
            version["config_files"] = body.config_files
        if body.volumes:
            version["volumes"] = [volume.model_dump() for volume in body.volumes]
        if body.service is not None:
            service = body.service
            version["service"] = {"type": service.type, "port": service.port, "external_ips": service.external_ips}
        await self._check(version, standing=standing, pointer=pointer)
        return version

    def env(
        self, given: dict[str, Given], *, standing: VersionSpec | None, pointer: str
    ) -> dict[str, str | SealedValue]:
        stands = standing["env"] if standing else {}
        sealed: dict[str, str | SealedValue] = {}
        for name, value in given.items():
            if isinstance(value, str):
                sealed[name] = value
            elif isinstance(value.secret, str):
                sealed[name] = self.vault.seal(value.secret, standing=stands.get(name))
            elif isinstance(kept := stands.get(name), dict):
                sealed[name] = kept
            else:
                message = "no secret value of this name stands in this version; give one"
                raise ValidationFailed.of(f"{pointer}/{name}/secret", message)
        return sealed

    def _pull_secret(self, given: PullSecret, *, standing: VersionSpec | None, pointer: str) -> PullSecretSpec:
        stands = standing.get("image_pull_secret") if standing else None
        known = stands["password"] if stands and stands["server"] == given.server else None
        if isinstance(given.password.secret, str):
            password = self.vault.seal(given.password.secret, standing=known)
        elif known is not None:
            password = known
        else:  # nor would it be sent to a server that it was not meant for
            message = "no password for this server stands in this version; give one"
            raise ValidationFailed.of(f"{pointer}/password/secret", message)
        return {"server": given.server, "username": given.username, "password": password}

    async def again(self, version: VersionSpec, *, standing: VersionSpec | None, pointer: str) -> VersionSpec:
        """A version out of the history, as it can be had today. Raises if what it refers to is gone."""
        exact = await self._model(version["model"], pointer=f"{pointer}/model")
        if exact.digest != version["digest"]:
            raise ValidationFailed.of(f"{pointer}/model", f"{version['model']} is not what it was in that revision")
        _, size = await self._instance_type(version["instance_type"], pointer=f"{pointer}/instance_type")
        found: VersionSpec = {**version, "resources": size}
        await self._check(found, standing=standing, pointer=pointer)
        return found

    async def _check(self, version: VersionSpec, *, standing: VersionSpec | None, pointer: str) -> None:
        """Whether `caller` may have it, and nobody else has its addresses."""
        self.policy.check(version, standing=standing, caller=self.caller, pointer=pointer)
        if (service := version.get("service")) and (standing is None or service != standing.get("service")):
            for address in service["external_ips"]:
                if await queries.has_address(self.session, address, service["port"], but=self.uid):
                    what = f"{address}:{service['port']}"
                    raise AddressTaken(f"Another deployment has {what}; choose another port or address.", address=what)

    async def _model(self, reference: str, *, pointer: str) -> _Model:
        path, _, alias = reference.partition("@")
        group, name, *rest = path.split("/")
        found = None
        if self.caller.sees(group):
            number = int(rest[0]) if rest else None
            found = await queries.model_version(self.session, group, name, number=number, alias=alias or None)
        if found is None:
            raise ValidationFailed.of(pointer, f"there is no model version {reference} that you may see")
        return _Model(
            model=f"{group}/{name}/{found.number}",
            alias=alias or None,
            digest=found.digest,
            artifact=found.artifact,
            size=found.size,
            framework=found.framework,
        )

    async def _instance_type(self, id: str | None, *, pointer: str) -> tuple[str, Size]:  # noqa: A002 - the API's word
        found = await queries.instance_type(self.session, self.group, id=id)
        if found is None:
            what = f"there is no instance type {id}" if id else "there is no instance type"
            raise ValidationFailed.of(pointer, f"{what} that group {self.group} may use")
        size: Size = {
            "cpu": float(found.cpu),
            "memory": found.memory,
            "gpu": float(found.gpu),
            "gpu_model": found.gpu_model,
        }
        if found.node_selector:
            size["node_selector"] = found.node_selector
        if found.tolerations:
            size["tolerations"] = found.tolerations
        return found.id, size

    @staticmethod
    def _check_runtime(runtime: str, model: _Model, *, pointer: str) -> None:
        known = RUNTIMES.get(runtime)
        if known is None:
            raise ValidationFailed.of(f"{pointer}/runtime", f"there is no runtime {runtime}; see /runtimes")
        if not isinstance(model.artifact, str):
            message = f"{model.model} has an artifact of several parts, which runtime {runtime} cannot serve"
            raise ValidationFailed.of(f"{pointer}/model", message)
        scheme = urlsplit(model.artifact).scheme
        if scheme not in known.schemes or (scheme == "registry" and model.digest is None):
            message = (
                f"runtime {runtime} cannot load a {scheme}:// artifact; upload it and register its registry:// address"
            )
            raise ValidationFailed.of(f"{pointer}/model", message)


def _standing_model(version: VersionSpec) -> _Model:
    return _Model(
        model=version["model"],
        alias=version["alias"],
        digest=version["digest"],
        artifact=version["artifact"],
        size=version["size"],
        framework=version["framework"],
    )
