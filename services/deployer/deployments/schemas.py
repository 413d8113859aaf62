"""Bodies of the deployments API. Field names, limits and what a missing or null field means are the contract."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from services.deployer.deployments.container import (
    ConfigFiles,
    ConfigFilesPatch,
    Image,
    MaskedSecret,
    PullSecret,
    PullSecretPatch,
    PullSecretView,
    Secret,
    SecretText,
    Service,
    ServicePatch,
    Volume,
    Volumes,
)
from services.deployer.deployments.domain import PROGRESS_DEADLINE
from shared.http import Body, DnsLabel, Timestamp
from shared.http.schemas import Text, Title

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"

ModelReference = Annotated[
    str,
    StringConstraints(pattern=rf"^{_LABEL}/{_LABEL}(/[1-9][0-9]{{0,8}}|@{_LABEL})?$", max_length=120),
    Field(
        description="`group/model/3`, `group/model@alias`, or `group/model` for the latest version; the last two are "
        "resolved when the change is accepted",
        examples=["risk/churn/3", "risk/churn@champion"],
    ),
]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=1000)]
Key = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=100)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Number = Annotated[int, Field(ge=1, le=1_000_000, description="the version's number")]
Count = Annotated[int, Field(ge=1, le=1000)]
Weight = Annotated[int, Field(ge=0, le=1_000_000)]
VersionNumber = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}$")]
Deadline = Annotated[int, Field(ge=1, le=86_400, description="seconds a rollout may take before it is Failed")]
Env = Annotated[
    dict[EnvName, SecretText | Secret],
    Field(max_length=100, examples=[{"THREADS": "1", "API_KEY": {"secret": "…"}}]),
]
Metadata = Annotated[dict[Key, Word], Field(max_length=100, examples=[{"team": "retention"}])]


class Replicas(Body):
    """How many replicas: `min`, and up to `max` where the platform scales by itself; admission counts `max`.

    Going in, one number stands for both.
    """

    min: Count = Field(default=1, description="at least so many", examples=[2])
    max: Count = Field(default=1, description="at most so many", examples=[2])

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "max": value}
        if isinstance(value, dict) and len(value) == 1:
            (given,) = value.values()
            return {"min": given, "max": given} if "min" in value else {"min": 1, **value}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.min > self.max:
            raise ValueError("min is more than max")
        return self


# What is asked for


class VersionBody(Body):
    """One version as wanted. Where it leaves out `instance_type` or `replicas`, what stands under its number stays."""

    model: ModelReference
    runtime: DnsLabel = Field(default="inference", description="one of /runtimes")
    instance_type: DnsLabel | None = Field(
        default=None, description="one of /instance-types; the smallest that the group may use, if left out"
    )
    replicas: Replicas | None = Field(default=None, description="1, if left out")
    env: Env = Field(default_factory=dict, description="environment of its replicas")
    image: Image | None = Field(default=None, description="in place of the runtime's own")
    image_pull_secret: PullSecret | None = Field(default=None, description="for an image that not everybody may pull")
    config_files: ConfigFiles = Field(default_factory=dict)
    volumes: Volumes = Field(default_factory=list, description="what its replicas find mounted")
    service: Service | None = Field(default=None, description="an address past the gateway")

    @model_validator(mode="after")
    def _pulled(self) -> "VersionBody":
        if self.image_pull_secret and not self.image:
            raise ValueError("image_pull_secret is for an image: give one, or clear both")
        return self


class NumberedVersion(VersionBody):
    number: Number | None = Field(default=None, description="its place in the list, if left out")


class NewVersion(VersionBody):
    message: Text = Field(default="", description="why; kept in the history", examples=["try the candidate"])


class Traffic(Body):
    """The split over the versions, as one value: what is left of 100 goes to the lowest version that is not named."""

    weights: dict[VersionNumber, Weight] = Field(
        default_factory=dict, description="percent by version", examples=[{"1": 90, "2": 10}]
    )


class DesiredState(Body):
    """What PUT says, all of it: a field that is left out takes its default."""

    name: Title | None = Field(default=None, description="the id, if left out")
    description: Text = Field(default="", description="for people", examples=["Who is about to leave."])
    metadata: Metadata = Field(default_factory=dict, description="free key–value pairs, which never restart a replica")
    stage: Literal["production"] = Field(default="production", description="`production`")
    access: Literal["private", "public"] = Field(default="private", description="private: only its clients may call it")
    versions: list[NumberedVersion] = Field(
        description="those wanted; what is left out is deleted", min_length=1, max_length=100
    )
    traffic: Traffic | None = Field(default=None, description="if left out: as it stands, a new version gets nothing")
    progress_deadline: Deadline = PROGRESS_DEADLINE
    message: Text = Field(default="", description="why; kept in the history")


_ONE_VERSION: dict[str, JsonValue] = {"number": 1, "model": "risk/churn@champion", "replicas": {"min": 2, "max": 4}}


class PutDeployment(DesiredState):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"group": "risk", "versions": [_ONE_VERSION], "message": "two of them"}]}
    )

    id: DnsLabel | None = Field(default=None, description="the id of the path; never changes")
    group: DnsLabel | None = Field(default=None, description="needed to create it; never changes")


class PostDeployment(DesiredState):
    """With only `model`, a version of a model is published: everything else has a default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "risk/churn@champion", "id": "churn"}]})

    id: DnsLabel | None = Field(default=None, description="made from the model's name, if left out")
    group: DnsLabel | None = Field(default=None, description="the model's group, if left out")
    versions: list[NumberedVersion] = Field(default_factory=list, description="those wanted", max_length=100)
    model: ModelReference | None = Field(default=None, description="in place of `versions`, for one version of a model")
    runtime: DnsLabel | None = Field(default=None, description="with `model`: as in a version")
    instance_type: DnsLabel | None = Field(default=None, description="with `model`: as in a version")
    replicas: Replicas | None = Field(default=None, description="with `model`: as in a version")
    env: Env | None = Field(default=None, description="with `model`: as in a version")

    @model_validator(mode="after")
    def _one_way(self) -> "PostDeployment":
        short = {"runtime", "instance_type", "replicas", "env"} & self.model_fields_set
        if self.model is None:
            if not self.versions:
                raise ValueError("give `model` or `versions`")
            if short:
                raise ValueError(f"{', '.join(sorted(short))}: only with `model`; put it into the versions")
        elif self.versions:
            raise ValueError("give `model` or `versions`, not both")
        return self

    def wanted(self) -> list[NumberedVersion]:
        if self.model is None:
            return self.versions
        return [
            NumberedVersion(
                model=self.model,
                runtime=self.runtime or "inference",
                instance_type=self.instance_type,
                replicas=self.replicas,
                env=self.env or {},
            )
        ]


class ReplicasPatch(Body):
    min: Count | None = Field(default=None, description="at least so many", examples=[2])
    max: Count | None = Field(default=None, description="at most so many", examples=[4])


class PatchVersion(Body):
    """A JSON merge patch of one version; a `model` is resolved anew, null clears."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"replicas": 2, "message": "more of them"}]})

    model: ModelReference | None = Field(
        default=None,
        description="`group/model/3`, `group/model@alias`, or `group/model` for the latest",
        examples=["risk/churn@champion"],
    )
    runtime: DnsLabel | None = Field(default=None, description="one of /runtimes", examples=["inference"])
    instance_type: DnsLabel | None = Field(
        default=None, description="one of /instance-types; null: the smallest", examples=["cpu-1"]
    )
    replicas: Count | ReplicasPatch | None = Field(
        default=None, description="one number, or `min` and `max`", examples=[2]
    )
    env: dict[EnvName, SecretText | Secret | None] | None = Field(
        default=None, description="by name; null removes one", examples=[{"THREADS": "2", "OLD": None}], max_length=100
    )
    image: Image | None = Field(default=None, description="in place of the runtime's own; null: that one")
    image_pull_secret: PullSecretPatch | None = Field(
        default=None, description="for an image that not everybody may pull"
    )
    config_files: ConfigFilesPatch | None = Field(default=None, description="by name; null removes one")
    volumes: Volumes | None = Field(default=None, description="all of them: a list is one value")
    service: ServicePatch | None = Field(default=None, description="an address past the gateway; null: none")
    message: Text = Field(default="", description="why; kept in the history", examples=["more of them"])


class PatchDeployment(Body):
    """A JSON merge patch. As in any merge patch a list is one value: `versions` is the whole list of those wanted.

    In it a version whose `model` reads as it stands keeps what that was resolved to. The weights are one value, too.
    """

    name: Title | None = Field(default=None, description="for people; null: the id", examples=["Churn score"])
    description: Text | None = Field(default=None, description="for people", examples=["Who is about to leave."])
    metadata: dict[Key, Word | None] | None = Field(
        default=None, description="by key; null removes one", examples=[{"team": "retention"}], max_length=100
    )
    stage: Literal["production"] | None = Field(default=None, description="`production`")
    access: Literal["private", "public"] | None = Field(
        default=None, description="private: only its clients may call it"
    )
    versions: list[NumberedVersion] | None = Field(
        default=None, description="all of those wanted: a list is one value", max_length=100
    )
    traffic: Traffic | None = Field(default=None, description="the split; one value")
    progress_deadline: Deadline | None = Field(
        default=None, description="seconds that a rollout may take before it is Failed; null: the default"
    )
    message: Text = Field(default="", description="why; kept in the history", examples=["a better name"])


class Action(Body):
    """Why; kept in the history."""

    message: Text = Field(default="", description="why; kept in the history", examples=["for the night"])


class RollBack(Action):
    revision: Annotated[int, Field(ge=1, le=2**53, description="the revision whose state shall be again", examples=[6])]


# What is answered


class ReplicasView(BaseModel):
    min: int = Field(description="at least so many", examples=[2])
    max: int = Field(description="at most so many", examples=[2])


class LiveVersionView(BaseModel):
    number: int = Field(description="counts from 1; its address has it", examples=[1])
    model: str = Field(description="as it was asked for; the exact one stands in the status", examples=["risk/churn/3"])
    runtime: str = Field(description="one of /runtimes", examples=["inference"])
    instance_type: str = Field(description="one of /instance-types", examples=["cpu-1"])
    replicas: ReplicasView = Field(description="how many, and up to how many")
    env: dict[str, str | MaskedSecret] = Field(
        description="environment of its replicas; secrets are masked",
        examples=[{"THREADS": "1", "API_KEY": {"secret": True}}],
    )
    image: str | None = Field(description="in place of the runtime's own; null: that one", examples=[None])
    image_pull_secret: PullSecretView | None = Field(
        description="what the image's registry asks for; null: nothing", examples=[None]
    )
    config_files: dict[str, str] = Field(
        description="name → text, in `/config/`", examples=[{"batching.yaml": "max_size: 8\n"}]
    )
    volumes: list[Volume] = Field(description="what its replicas find mounted", examples=[[]])
    service: Service | None = Field(description="its address past the gateway; null: it has none", examples=[None])


class TrafficView(BaseModel):
    weights: dict[str, int] = Field(description="percent by version", examples=[{"1": 90, "2": 10}])


class Condition(BaseModel):
    type: str = Field(description="what it is about", examples=["Ready"])
    status: Literal["True", "False", "Unknown"] = Field(description="whether it holds")
    reason: str = Field(description="why, in one word", examples=["AllReplicasReady"])
    message: str = Field(description="why, in words", examples=["2 of 2 replicas are ready."])
    since: str = Field(description="when the status was last another", examples=["2026-01-01T00:00:00.000Z"])


class EvidenceView(BaseModel):
    exit_code: int | None = Field(
        default=None, description="of its process; above 128: the signal that ended it", examples=[137]
    )
    log: list[str] = Field(default_factory=list, examples=[["MemoryError"]], description="the last lines")


class FailureView(BaseModel):
    cause: str = Field(description="one of a fixed list, see docs/deployments.md", examples=["out_of_memory"])
    message: str = Field(default="", description="what happened", examples=["Replica churn-1-x7k2p ran out of memory."])
    replica: str | None = Field(default=None, description="the one that it was seen at", examples=["churn-1-x7k2p"])
    evidence: EvidenceView = Field(default=EvidenceView(), description="what it is concluded from")
    advice: str = Field(description="what to do", examples=["Choose an instance type with more memory."])


class VersionStatus(BaseModel):
    number: int = Field(description="of the version", examples=[1])
    phase: str = Field(description="Deploying, Deployed, Failed, Stopping or Stopped", examples=["Deployed"])
    ready: int = Field(
        description="replicas that are Ready with the wanted specification; more than wanted, if scaled", examples=[2]
    )
    wanted: int = Field(description="at least so many: `replicas.min`, 0 if stopped", examples=[2])
    model: str = Field(description="the exact version", examples=["risk/churn/3"])
    digest: str | None = Field(description="SHA-256 of the artifact; null: it has none", examples=["sha256:…"])
    failure: FailureView | None = Field(description="why it failed; null: it has not", examples=[None])
    addresses: list[str] = Field(
        default=[],
        description="where its `service` is reached, past the gateway; empty until it has been given one",
        examples=[["203.0.113.7:80"]],
    )


class TrafficStatus(BaseModel):
    weights: dict[str, int] = Field(description="in effect at the gateway", examples=[{"1": 90, "2": 10}])
    enforced: bool = Field(
        description="the gateway has acknowledged this generation, with the weights as wanted", examples=[True]
    )


class Status(BaseModel):
    phase: Literal["Deploying", "Deployed", "Failed", "Stopping", "Stopped"] = Field(
        description="Deployed only once every wanted replica answers its health check", examples=["Deployed"]
    )
    observed_generation: int = Field(description="the generation that the rest of the status speaks of", examples=[7])
    conditions: list[Condition] = Field(description="what holds, why, and since when")
    versions: list[VersionStatus] = Field(description="how each version fares")
    traffic: TrafficStatus = Field(description="what the gateway does")


class ChangeView(BaseModel):
    path: str = Field(description="JSON pointer; versions by their number", examples=["/versions/1/replicas/max"])
    before: Any = Field(description="the value until then; null: none", examples=[2])
    after: Any = Field(description="the value since; null: none", examples=[4])


class QuotaFit(BaseModel):
    requested: dict[str, float] = Field(
        description="cores, bytes, GPU cards, deployments",
        examples=[{"cpu": 4, "memory": 8589934592, "gpu": 0, "deployments": 1}],
    )
    used: dict[str, float] = Field(
        description="by the group's other deployments",
        examples=[{"cpu": 8, "memory": 17179869184, "gpu": 0, "deployments": 3}],
    )
    limit: dict[str, float | None] = Field(
        description="null: no limit", examples=[{"cpu": 16, "memory": 68719476736, "gpu": None, "deployments": 10}]
    )


class DeploymentView(BaseModel):
    """A deployment. `diff`, `fits` and `quota` are there on a dry run only."""

    id: str = Field(description="unique among those that live; its address has it", examples=["churn"])
    uid: str = Field(
        description="names this deployment for good, also once another has its id",
        examples=["0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"],
    )
    group: str = Field(description="whose it is", examples=["risk"])
    name: str = Field(description="for people", examples=["Churn score"])
    description: str = Field(description="for people", examples=["Who is about to leave."])
    metadata: dict[str, str] = Field(description="free key–value pairs", examples=[{"team": "retention"}])
    stage: str = Field(description="always `production`", examples=["production"])
    access: str = Field(description="private: only its clients may call it", examples=["private"])
    versions: list[LiveVersionView] = Field(description="the live ones, by number")
    traffic: TrafficView = Field(description="the split that is wanted")
    progress_deadline: int = Field(description="seconds", examples=[600])
    stopped: bool = Field(description="it keeps its address and runs nothing")
    generation: int = Field(description="rises with each accepted change; the ETag", examples=[7])
    revision: int = Field(description="the latest entry of its history", examples=[7])
    message: str = Field(description="of the last change", examples=["try the candidate"])
    endpoint: str = Field(description="split by the weights", examples=["http://127.0.0.1:8080/deployment/churn/"])
    created_at: Timestamp = Field(description="when it was made")
    created_by: str = Field(description="who made it", examples=["ana"])
    updated_at: Timestamp = Field(description="when it was last changed")
    updated_by: str = Field(description="who changed it last", examples=["ana"])
    status: Status = Field(description="what is, as against what is wanted")
    diff: list[ChangeView] | None = Field(
        default=None, description="what would change", exclude_if=lambda value: value is None
    )
    fits: bool | None = Field(
        default=None, description="whether the group's quota holds it", exclude_if=lambda value: value is None
    )
    quota: QuotaFit | None = Field(
        default=None, description="by how much it fits, or not", exclude_if=lambda value: value is None
    )
