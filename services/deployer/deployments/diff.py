"""What changed between two states of a deployment, as a list of paths with before and after. Pure.

Versions are compared by their number, so that adding one does not show as a change of the others. Secret values are
masked, yet a changed one shows as a change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

from services.deployer.deployments.domain import Spec, VersionSpec

SECRET = {"secret": True}
_UNNAMED = ("artifact", "size", "framework", "resources")
"""Follow from the model and the instance type; naming them would say everything twice."""


class Change(TypedDict):
    path: str
    before: Any
    after: Any


def difference(
    before: Spec | None, after: Spec | None, *, stopped_before: bool = False, stopped_after: bool = False
) -> list[Change]:
    """From nothing (`None`) it is one change of the whole document per field."""
    old = _comparable(before, stopped=stopped_before) if before else {}
    new = _comparable(after, stopped=stopped_after) if after else {}
    return list(_walk("", old, new))


def masked(version: VersionSpec) -> dict[str, Any]:
    """The version with no secret in it, not even a sealed one."""
    env = {name: value if isinstance(value, str) else SECRET for name, value in version["env"].items()}
    shown: dict[str, Any] = {**version, "env": env}
    if pull_secret := version.get("image_pull_secret"):
        shown["image_pull_secret"] = {**pull_secret, "password": SECRET}
    return shown


@dataclass(frozen=True)
class _Secret:
    """A sealed value; two are the same if they were sealed together."""

    sealed: str


def _comparable(spec: Spec, *, stopped: bool) -> dict[str, Any]:
    versions = {}
    for version in spec["versions"]:
        fields: dict[str, Any] = {key: value for key, value in version.items() if key not in ("number", *_UNNAMED)}
        fields["env"] = {name: v if isinstance(v, str) else _Secret(v["sealed"]) for name, v in version["env"].items()}
        if pull_secret := version.get("image_pull_secret"):
            fields["image_pull_secret"] = {**pull_secret, "password": _Secret(pull_secret["password"]["sealed"])}
        if volumes := version.get("volumes"):
            fields["volumes"] = {volume["name"]: volume for volume in volumes}
        versions[str(version["number"])] = fields
    return {**spec, "versions": versions, "stopped": stopped}


def _walk(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            escaped = key.replace("~", "~0").replace("/", "~1")
            yield from _walk(f"{path}/{escaped}", before.get(key), after.get(key))
        return
    yield Change(path=path, before=_masked(before), after=_masked(after))


def _masked(value: Any) -> Any:
    if isinstance(value, _Secret):
        return SECRET
    return {key: _masked(item) for key, item in value.items()} if isinstance(value, dict) else value
