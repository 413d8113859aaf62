"""The rules of a deployment's desired state. Pure: no I/O, no clock, no rows.

`Spec` is what `deployments.spec` and `revisions.spec` hold, as JSON. What was asked for has been resolved in it: the
exact model version and digest, the sizes of the instance type, weights for every live version that sum to 100.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

from services.deployer.errors import VersionLimitReached, WeightsExceedTotal
from services.deployer.platforms import surge
from shared.errors import ValidationFailed

TOTAL_WEIGHT = 100
LONGEST_ID = 40
PROGRESS_DEADLINE = 600


class ReplicaCount(TypedDict):
    min: int
    max: int


class Size(TypedDict):
    """What one replica may use (cores, bytes, cards), and on which nodes: what its instance type said."""

    cpu: float
    memory: int
    gpu: float
    gpu_model: str | None
    node_selector: NotRequired[dict[str, str]]
    tolerations: NotRequired[list[dict[str, Any]]]


class SealedValue(TypedDict):
    """A secret value, encrypted; only the reconciler opens it."""

    sealed: str


class PullSecretSpec(TypedDict):
    server: str
    username: str
    password: SealedValue


class ServiceSpec(TypedDict):
    type: Literal["LoadBalancer", "ClusterIP"]
    port: int
    external_ips: list[str]


class VersionSpec(TypedDict):
    """What is not required is not there unless it was asked for: rows that are older than a field stay as they are."""

    number: int
    model: str
    alias: str | None
    digest: str | None
    artifact: Any
    size: int | None
    framework: str
    runtime: str
    instance_type: str
    resources: Size
    replicas: ReplicaCount
    env: dict[str, str | SealedValue]
    restart: int
    image: NotRequired[str]
    image_pull_secret: NotRequired[PullSecretSpec]
    config_files: NotRequired[dict[str, str]]
    volumes: NotRequired[list[dict[str, Any]]]
    service: NotRequired[ServiceSpec]


class Traffic(TypedDict):
    weights: dict[str, int]


class Spec(TypedDict):
    name: str
    description: str
    metadata: dict[str, str]
    stage: Literal["production"]
    access: Literal["private", "public"]
    versions: list[VersionSpec]
    traffic: Traffic
    progress_deadline: int


def numbers_of(spec: Spec) -> list[int]:
    return [version["number"] for version in spec["versions"]]


def version_of(spec: Spec, number: int) -> VersionSpec | None:
    return next((version for version in spec["versions"] if version["number"] == number), None)


def model_reference(version: VersionSpec) -> str:
    """The model as it was asked for: by its alias, if it was one."""
    if version["alias"] is None:
        return version["model"]
    return f"{version['model'].rpartition('/')[0]}@{version['alias']}"


# Versions


def moved_secrets(before: Mapping[str, str | SealedValue], after: Mapping[str, str | SealedValue]) -> bool:
    """Whether a variable has become secret, or is not any more. Its replicas find it elsewhere then, so that they must
    be fresh ones also where the value, and with it the template's digest, is the same."""
    return any(isinstance(before[name], str) != isinstance(after[name], str) for name in before.keys() & after.keys())


def check_addresses(access: str, versions: Sequence[VersionSpec], *, pointer: str) -> None:
    """Raises unless addresses past the gateway are of a public deployment, and each of one version. `pointer` has a
    place for the version's."""
    taken: set[tuple[str, int]] = set()
    for index, version in enumerate(versions):
        if (service := version.get("service")) is None:
            continue
        where = f"{pointer.format(index)}/service"
        if access != "public":
            message = "is an address past the gateway, which knows no clients: only with access public"
            raise ValidationFailed.of(where, message)
        for address in service["external_ips"]:
            if (address, service["port"]) in taken:
                raise ValidationFailed.of(where, f"two versions have {address}:{service['port']}")
            taken.add((address, service["port"]))


def check_numbers(numbers: Sequence[int], *, live: Iterable[int], last: int, limit: int) -> None:
    """Raises unless each number is there once, lives or was never used, and there are 1 to `limit` of them."""
    known = set(live)
    for index, number in enumerate(numbers):
        pointer = f"/versions/{index}/number"
        if number in numbers[:index]:
            raise ValidationFailed.of(pointer, f"version {number} is there twice")
        if number not in known and number <= last:
            raise ValidationFailed.of(
                pointer, f"version {number} was deleted and its number is not used again; take {last + 1} or roll back"
            )
        if number > last + limit:
            raise ValidationFailed.of(pointer, f"numbers are given one after the other; the next is {last + 1}")
    if not numbers:
        raise ValidationFailed.of("/versions", "a deployment has at least one version; stop or delete it instead")
    if len(numbers) > limit:
        raise VersionLimitReached(
            f"A deployment has at most {limit} live versions; delete one first.", requested=len(numbers), limit=limit
        )


# Traffic


def split_traffic(given: Mapping[int, int], numbers: Sequence[int]) -> dict[str, int]:
    """Weights for every version: those given, what they leave to the lowest-numbered version that is not named."""
    for number in given:
        if number not in numbers:
            raise ValidationFailed.of(f"/traffic/weights/{number}", f"there is no version {number}")
    total = sum(given.values())
    if total > TOTAL_WEIGHT:
        raise WeightsExceedTotal.of("/traffic/weights", f"they sum to {total}, which is more than {TOTAL_WEIGHT}")
    weights = {number: given.get(number, 0) for number in sorted(numbers)}
    if total < TOTAL_WEIGHT:
        unnamed = [number for number in weights if number not in given]
        if not unnamed:
            message = (
                f"they sum to {total}; let them sum to {TOTAL_WEIGHT}, or leave out the version that takes the rest"
            )
            raise ValidationFailed.of("/traffic/weights", message)
        weights[unnamed[0]] = TOTAL_WEIGHT - total
    return {str(number): weight for number, weight in weights.items()}


def keep_traffic(standing: Mapping[str, int], numbers: Sequence[int]) -> dict[str, int]:
    """The split as it stands, over the versions that live now: a new one gets nothing, what a deleted one had goes to
    the others in proportion."""
    kept = {number: standing.get(str(number), 0) for number in sorted(numbers)}
    total = sum(kept.values())
    if total == 0:
        return split_traffic({}, numbers)
    shares = {number: weight * TOTAL_WEIGHT // total for number, weight in kept.items()}
    # Largest remainder, so that the sum is exact.
    by_remainder = sorted(kept, key=lambda number: (-(kept[number] * TOTAL_WEIGHT % total), number))
    for number in by_remainder[: TOTAL_WEIGHT - sum(shares.values())]:
        shares[number] += 1
    return {str(number): share for number, share in shares.items()}


# Names


def free_id(model: str, taken: Iterable[str]) -> str:
    """An id made from the model's name: the name, or with the lowest number that makes it unique."""
    known, number = set(taken), 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        made = model[: LONGEST_ID - len(suffix)].rstrip("-") + suffix
        if made not in known:
            return made
        number += 1


# Quota


@dataclass(frozen=True)
class Reservation:
    """What a deployment may use at most, rollouts included."""

    cpu: Decimal = Decimal(0)
    memory: int = 0
    gpu: Decimal = Decimal(0)
    deployments: int = 1

    def figures(self) -> dict[str, float]:
        """As shown in an answer."""
        return {
            "cpu": float(self.cpu),
            "memory": self.memory,
            "gpu": float(self.gpu),
            "deployments": self.deployments,
        }


NOTHING = Reservation(deployments=0)


def reserve(versions: Iterable[VersionSpec]) -> Reservation:
    """Every live version at its maximum, and the surge of a rollout of all of them at once.

    The platform never runs more replicas of a version than its maximum and that surge, so a rollout needs nothing
    beyond what was admitted. What is on its way out after a stop, a deletion or a change to a smaller size is not
    counted: it only ever shrinks.
    """
    cpu, memory, gpu = Decimal(0), 0, Decimal(0)
    for version in versions:
        size, replicas = version["resources"], version["replicas"]["max"]
        replicas += surge(replicas)
        cpu += Decimal(str(size["cpu"])) * replicas
        memory += size["memory"] * replicas
        gpu += Decimal(str(size["gpu"])) * replicas
    return Reservation(cpu=cpu, memory=memory, gpu=gpu)


def over_quota(
    wanted: Reservation, *, held: Reservation, used: Reservation, limit: Mapping[str, float | None]
) -> list[str]:
    """The resources that do not fit. `held` is what the deployment itself has now, `used` what the others have.

    What does not grow is let pass: a quota that was lowered must not keep anyone from asking for less.
    """
    asked, has, others = wanted.figures(), held.figures(), used.figures()
    return [
        name
        for name, most in limit.items()
        if most is not None and asked[name] > has[name] and asked[name] + others[name] > most
    ]
