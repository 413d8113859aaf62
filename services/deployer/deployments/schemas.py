"""Bodies of the deployments API. Field names, limits and what a missing or null field means are the contract."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

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
    """How many replicas: `min`, and up to `max` where the platform scales by itself; admission counts `max`."""

    min: Count = Field(default=1, examples=[2])
    max: Count = Field(default=1, examples=[2])

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
    image: Image | None = None
    image_pull_secret: PullSecret | None = Field(default=None, description="for an image that not everybody may pull")
    config_files: ConfigFiles = Field(default_factory=dict)
    volumes: Volumes = Field(default_factory=list)
    service: Service | None = None

    @model_validator(mode="after")
    def _pulled(self) -> "VersionBody":
        if self.image_pull_secret and not self.image:
            raise ValueError("image_pull_secret is for an image: give one, or clear both")
        return self


class NumberedVersion(VersionBody):
    number: Number | None = Field(default=None, description="its place in the list, if left out")


class NewVersion(VersionBody):
    message: Text = ""


class Traffic(Body):
    """The split over the versions, as one value: what is left of 100 goes to the lowest version that is not named."""

    weights: dict[VersionNumber, Weight] = Field(default_factory=dict, examples=[{"1": 90, "2": 10}])


class DesiredState(Body):
    """What PUT says, all of it: a field that is left out takes its default."""

    name: Title | None = Field(default=None, description="the id, if left out")
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)
    stage: Literal["production"] = "production"
    access: Literal["private", "public"] = Field(default="private", description="private: only its clients may call it")
    versions: list[NumberedVersion] = Field(min_length=1, max_length=100)
    traffic: Traffic | None = Field(default=None, description="if left out: as it stands, a new version gets nothing")
    progress_deadline: Deadline = PROGRESS_DEADLINE
    message: Text = Field(default="", description="why; kept in the history")


class PutDeployment(DesiredState):
    id: DnsLabel | None = Field(default=None, description="the id of the path; never changes")
    group: DnsLabel | None = Field(default=None, description="needed to create it; never changes")


class PostDeployment(DesiredState):
    """With only `model`, a version of a model is published: everything else has a default."""

    id: DnsLabel | None = Field(default=None, description="made from the model's name, if left out")
    group: DnsLabel | None = Field(default=None, description="the model's group, if left out")
    versions: list[NumberedVersion] = Field(default_factory=list, max_length=100)
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
    min: Count | None = None
    max: Count | None = None


class PatchVersion(Body):
    """A JSON merge patch of one version; a `model` is resolved anew, null clears."""

    model: ModelReference | None = None
    runtime: DnsLabel | None = None
    instance_type: DnsLabel | None = None
    replicas: Count | ReplicasPatch | None = None
    env: dict[EnvName, SecretText | Secret | None] | None = Field(default=None, max_length=100)
    image: Image | None = None
    image_pull_secret: PullSecretPatch | None = None
    config_files: ConfigFilesPatch | None = Field(default=None, description="by name; null removes one")
    volumes: Volumes | None = Field(default=None, description="all of them: a list is one value")
    service: ServicePatch | None = None
    message: Text = ""


class PatchDeployment(Body):
    """A JSON merge patch. As in any merge patch a list is one value: `versions` is the whole list of those wanted.

    In it a version whose `model` reads as it stands keeps what that was resolved to. The weights are one value, too.
    """

    model_config = ConfigDict(extra="forbid")

    name: Title | None = None
    description: Text | None = None
    metadata: dict[Key, Word | None] | None = Field(default=None, max_length=100)
    stage: Literal["production"] | None = None
    access: Literal["private", "public"] | None = None
    versions: list[NumberedVersion] | None = Field(default=None, max_length=100)
    traffic: Traffic | None = None
    progress_deadline: Deadline | None = None
    message: Text = ""


class Action(Body):
    """Why; kept in the history."""

    message: Text = ""


class RollBack(Action):
    revision: Annotated[int, Field(ge=1, le=2**53, description="the revision whose state shall be again")]


# What is answered


class ReplicasView(BaseModel):
    min: int
    max: int


class VersionView(BaseModel):
    number: int = Field(examples=[1])
    model: str = Field(description="as it was asked for; the exact one stands in the status", examples=["risk/churn/3"])
    runtime: str = Field(examples=["inference"])
    instance_type: str = Field(examples=["cpu-1"])
    replicas: ReplicasView
    env: dict[str, str | MaskedSecret]
    image: str | None
    image_pull_secret: PullSecretView | None
    config_files: dict[str, str]
    volumes: list[Volume]
    service: Service | None


class TrafficView(BaseModel):
    weights: dict[str, int] = Field(description="percent by version", examples=[{"1": 90, "2": 10}])


class Condition(BaseModel):
    type: str = Field(examples=["Ready"])
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(examples=["AllReplicasReady"])
    message: str
    since: str = Field(description="when the status was last another", examples=["2026-01-01T00:00:00.000Z"])


class EvidenceView(BaseModel):
    exit_code: int | None = Field(default=None, examples=[137])
    log: list[str] = Field(default_factory=list, description="the last lines")


class FailureView(BaseModel):
    cause: str = Field(description="one of a fixed list, see docs/deployments.md", examples=["out_of_memory"])
    message: str = ""
    replica: str | None = None
    evidence: EvidenceView = EvidenceView()
    advice: str


class VersionStatus(BaseModel):
    number: int
    phase: str = Field(examples=["Deployed"])
    ready: int = Field(description="replicas that are Ready with the wanted specification; more than wanted, if scaled")
    wanted: int = Field(description="at least so many: `replicas.min`, 0 if stopped")
    model: str = Field(description="the exact version", examples=["risk/churn/3"])
    digest: str | None = Field(examples=["sha256:…"])
    failure: FailureView | None
    addresses: list[str] = Field(
        default=[],
        description="where its `service` is reached, past the gateway; empty until it has been given one",
        examples=[["203.0.113.7:80"]],
    )


class TrafficStatus(BaseModel):
    weights: dict[str, int] = Field(description="in effect at the gateway")
    enforced: bool = Field(description="the gateway has acknowledged this generation, with the weights as wanted")


class Status(BaseModel):
    phase: Literal["Deploying", "Deployed", "Failed", "Stopping", "Stopped"]
    observed_generation: int = Field(description="the generation that the rest of the status speaks of")
    conditions: list[Condition]
    versions: list[VersionStatus]
    traffic: TrafficStatus


class ChangeView(BaseModel):
    path: str = Field(description="JSON pointer; versions by their number", examples=["/versions/1/replicas/max"])
    before: Any
    after: Any


class QuotaView(BaseModel):
    requested: dict[str, float]
    used: dict[str, float] = Field(description="by the group's other deployments")
    limit: dict[str, float | None] = Field(description="null: no limit")


class DeploymentView(BaseModel):
    """A deployment. `diff`, `fits` and `quota` are there on a dry run only."""

    id: str = Field(examples=["churn"])
    uid: str = Field(description="names this deployment for good, also once another has its id")
    group: str = Field(examples=["risk"])
    name: str
    description: str
    metadata: dict[str, str]
    stage: str
    access: str
    versions: list[VersionView]
    traffic: TrafficView
    progress_deadline: int = Field(description="seconds")
    stopped: bool
    generation: int = Field(description="rises with each accepted change; the ETag")
    revision: int
    message: str = Field(description="of the last change")
    endpoint: str = Field(examples=["http://127.0.0.1:8080/deployment/churn/"])
    created_at: Timestamp
    created_by: str
    updated_at: Timestamp
    updated_by: str
    status: Status
    diff: list[ChangeView] | None = Field(default=None, exclude_if=lambda value: value is None)
    fits: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    quota: QuotaView | None = Field(default=None, exclude_if=lambda value: value is None)
