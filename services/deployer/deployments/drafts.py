"""What a request body makes of a deployment's spec: the whole of it (POST, PUT), or a part (PATCH). Writes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from services.deployer.deployments.container import Secret
from services.deployer.deployments.diff import masked
from services.deployer.deployments.domain import (
    PROGRESS_DEADLINE,
    Spec,
    VersionSpec,
    check_addresses,
    check_numbers,
    keep_traffic,
    model_reference,
    numbers_of,
    split_traffic,
    version_of,
)
from services.deployer.deployments.resolver import Resolver
from services.deployer.deployments.schemas import (
    DesiredState,
    NumberedVersion,
    PatchDeployment,
    PatchVersion,
    Replicas,
    ReplicasPatch,
    Traffic,
    VersionBody,
)
from services.deployer.deployments.views import container_view
from shared.errors import FieldProblem, ValidationFailed

__all__ = ["desired", "patched", "patched_version", "with_version", "without_version"]


async def desired(
    body: DesiredState,
    *,
    wanted: Sequence[NumberedVersion],
    id: str,  # noqa: A002  # the API's word
    standing: Spec | None,
    last: int,
    limit: int,
    resolver: Resolver,
    pointer: str = "/versions/{}",
) -> Spec:
    """The whole desired state; aliases are looked up again."""
    versions = await _versions(
        wanted, standing=standing, last=last, limit=limit, resolver=resolver, pointer=pointer, moved_alias=True
    )
    check_addresses(body.access, versions, pointer=pointer)
    return {
        "name": body.name or id,
        "description": body.description,
        "metadata": body.metadata,
        "stage": body.stage,
        "access": body.access,
        "versions": versions,
        "traffic": {"weights": _weights(body.traffic, standing, versions)},
        "progress_deadline": body.progress_deadline,
    }


async def patched(
    body: PatchDeployment,
    *,
    id: str,  # noqa: A002 - the API's word
    standing: Spec,
    last: int,
    limit: int,
    resolver: Resolver,
) -> Spec:
    """A merge patch: what is not named stays, null clears."""
    given = body.model_fields_set
    spec: Spec = {**standing}
    if "name" in given:
        spec["name"] = body.name or id
    if "description" in given:
        spec["description"] = body.description or ""
    if "metadata" in given:
        spec["metadata"] = _merged(standing["metadata"], body.metadata)
    if "access" in given:
        spec["access"] = body.access or "private"
    if "progress_deadline" in given:
        spec["progress_deadline"] = body.progress_deadline or PROGRESS_DEADLINE
    if "versions" in given:
        spec["versions"] = await _versions(
            body.versions or [],
            standing=standing,
            last=last,
            limit=limit,
            resolver=resolver,
            pointer="/versions/{}",
            moved_alias=False,
        )
    _check_patched(spec, body)
    if "versions" in given or "traffic" in given:
        cleared = "traffic" in given and body.traffic is None
        spec["traffic"] = {"weights": _weights(body.traffic, None if cleared else standing, spec["versions"])}
    return spec


async def patched_version(body: PatchVersion, *, number: int, standing: Spec, resolver: Resolver) -> Spec:
    """One version, the others as they are."""
    old = version_of(standing, number)
    assert old is not None
    version = await resolver.version(
        _patched_body(body, old), number=number, standing=old, pointer="", moved_alias=body.model is not None
    )
    versions = [version if v["number"] == number else v for v in standing["versions"]]
    check_addresses(standing["access"], versions, pointer="")
    return {**standing, "versions": versions}


def _patched_body(body: PatchVersion, old: VersionSpec) -> VersionBody:
    """The whole of what the patch asks for. Raises ValidationFailed where its parts are good and their sum is not."""
    given = body.model_fields_set
    stands = container_view(masked(old))
    container = _merge(stands, body.model_dump(include=set(stands), exclude_unset=True))
    try:
        return VersionBody(
            model=body.model or model_reference(old),
            runtime=(body.runtime or "inference") if "runtime" in given else old["runtime"],
            instance_type=body.instance_type if "instance_type" in given else old["instance_type"],
            replicas=_replicas(body.replicas, old) if "replicas" in given else None,
            env=_env(body.env, old) if "env" in given else _kept(old),
            **container,
        )
    except ValidationError as error:
        raise ValidationFailed(
            [
                FieldProblem("".join(f"/{part}" for part in each["loc"]), each["msg"].removeprefix("Value error, "))
                for each in error.errors()
            ]
        ) from error


async def with_version(
    body: VersionBody, *, number: int, standing: Spec, last: int, limit: int, resolver: Resolver
) -> Spec:
    """One version added, or replaced if it lives."""
    old = version_of(standing, number)
    version = await resolver.version(body, number=number, standing=old, pointer="")
    versions = sorted([*(v for v in standing["versions"] if v["number"] != number), version], key=lambda v: v["number"])
    numbers = [v["number"] for v in versions]
    check_numbers(numbers, live=numbers_of(standing), last=last, limit=limit)
    check_addresses(standing["access"], versions, pointer="")
    return {**standing, "versions": versions, "traffic": {"weights": _weights(None, standing, versions)}}


def without_version(number: int, *, standing: Spec, limit: int, last: int) -> Spec:
    versions = [version for version in standing["versions"] if version["number"] != number]
    numbers = [version["number"] for version in versions]
    check_numbers(numbers, live=numbers, last=last, limit=limit)
    return {**standing, "versions": versions, "traffic": {"weights": _weights(None, standing, versions)}}


async def _versions(
    wanted: Sequence[NumberedVersion],
    *,
    standing: Spec | None,
    last: int,
    limit: int,
    resolver: Resolver,
    pointer: str,
    moved_alias: bool,
) -> list[VersionSpec]:
    numbers = [version.number or place for place, version in enumerate(wanted, start=1)]
    live = numbers_of(standing) if standing else []
    check_numbers(numbers, live=live, last=last, limit=limit)
    found = [
        await resolver.version(
            body,
            number=number,
            standing=version_of(standing, number) if standing else None,
            pointer=pointer.format(index),
            moved_alias=moved_alias,
        )
        for index, (number, body) in enumerate(zip(numbers, wanted, strict=True))
    ]
    return sorted(found, key=lambda version: version["number"])


def _check_patched(spec: Spec, body: PatchDeployment) -> None:
    """Of addresses past the gateway: who changes the access alone is told so there."""
    if "versions" in body.model_fields_set:
        check_addresses(spec["access"], spec["versions"], pointer="/versions/{}")
    elif spec["access"] != "public" and any("service" in version for version in spec["versions"]):
        raise ValidationFailed.of("/access", "a version has an address past the gateway; clear its `service` first")


def _weights(given: Traffic | None, standing: Spec | None, versions: Sequence[VersionSpec]) -> dict[str, int]:
    numbers = [version["number"] for version in versions]
    if given is not None:
        return split_traffic({int(number): weight for number, weight in given.weights.items()}, numbers)
    return keep_traffic(standing["traffic"]["weights"], numbers) if standing else split_traffic({}, numbers)


def _merged(standing: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    if patch is None:
        return {}
    merged: dict[str, Any] = {**standing, **patch}
    return {key: value for key, value in merged.items() if value is not None}


def _merge(stands: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(stands) if isinstance(stands, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _replicas(patch: int | ReplicasPatch | None, old: VersionSpec) -> Replicas:
    if patch is None:
        return Replicas()
    if isinstance(patch, int):
        return Replicas(min=patch, max=patch)
    least = patch.min or old["replicas"]["min"]
    most = patch.max or old["replicas"]["max"]
    if least > most:
        raise ValidationFailed.of("/replicas", f"min would be {least}, which is more than max, {most}")
    return Replicas(min=least, max=most)


def _kept(old: VersionSpec) -> dict[str, str | Secret]:
    return {name: value if isinstance(value, str) else Secret(secret=True) for name, value in old["env"].items()}


def _env(patch: Mapping[str, str | Secret | None] | None, old: VersionSpec) -> dict[str, str | Secret]:
    if patch is None:
        return {}
    merged: dict[str, Any] = {**_kept(old), **patch}
    return {name: value for name, value in merged.items() if value is not None}
