"""Bodies of instance types."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, field_validator

from services.registry.instance_types.domain import Gpu
from shared.http import Body, DnsLabel, Timestamp
from shared.http.schemas import LabelKey, LabelValue, Title
from shared.quantities import Bytes, Cores

_GPU = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1024},
        {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,3})?(\([A-Za-z0-9][A-Za-z0-9._ -]*\))?$"},
    ]
}

GpuShare = Annotated[Gpu, BeforeValidator(Gpu.parse), WithJsonSchema(_GPU)]


class Toleration(Body):
    """Of a node's taint, as Kubernetes has it."""

    key: LabelKey | None = Field(
        default=None, description="of the taint; without it, with `Exists`: every taint", examples=["nvidia.com/gpu"]
    )
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="`Equal`: key and value are the taint's; `Exists`: the key is"
    )
    value: LabelValue | None = Field(default=None, description="of the taint, with `Equal`", examples=["true"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="of the taint; without it: every effect", examples=["NoSchedule"]
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000, strict=True)] | None = Field(
        default=None, examples=[300], description="seconds"
    )


NodeSelector = Annotated[dict[LabelKey, LabelValue], Field(max_length=50)]
Tolerations = Annotated[list[Toleration], Field(max_length=50)]
Groups = Annotated[list[DnsLabel], Field(max_length=2000)]

_CPU = Field(description="cores of one replica", gt=0, examples=["500m", 2])
_MEMORY = Field(description="bytes of one replica", gt=0, examples=["2Gi"])
_GPU_FIELD = "cards of one replica: a number, or with a model"
_GROUPS_FIELD = "the groups that may use it; null: all"


class InstanceTypeCreate(Body):
    id: DnsLabel = Field(description="never changes", examples=["cpu-1"])
    name: Title | None = Field(default=None, description="for people; the id if left out", examples=["One core"])
    cpu: Annotated[Cores, _CPU]
    memory: Annotated[Bytes, _MEMORY]
    gpu: GpuShare = Field(
        default=Gpu(Decimal(0), None), description=_GPU_FIELD, examples=["0.2(T4)", 1], validate_default=False
    )
    node_selector: NodeSelector = Field(default_factory=dict, description="labels that a node must have")
    tolerations: Tolerations = Field(default_factory=list, description="taints that a node may have")
    groups: Groups | None = Field(default=None, description=_GROUPS_FIELD, examples=[["risk"]])


class InstanceTypePatch(Body):
    """A JSON merge patch: null clears, where there is something to fall back to."""

    name: Title | None = Field(default=None, description="for people", examples=["One core"])
    cpu: Annotated[Cores, _CPU] | None = Field(default=None, description="cores of one replica", examples=["500m"])
    memory: Annotated[Bytes, _MEMORY] | None = Field(default=None, description="bytes of one replica", examples=["2Gi"])
    gpu: GpuShare | None = Field(default=None, description=_GPU_FIELD, examples=["1(V100)"])
    node_selector: dict[LabelKey, LabelValue | None] | None = Field(
        default=None, description="labels that a node must have; a label's null removes it", max_length=50
    )
    tolerations: Tolerations | None = Field(
        default=None, description="taints that a node may have: all of them, a list is one value"
    )
    groups: Groups | None = Field(default=None, description=_GROUPS_FIELD)

    @field_validator("cpu", "memory", mode="before")
    @classmethod
    def _needed(cls, value: object) -> object:
        if value is None:
            raise ValueError("cannot be cleared")
        return value


MOST_USES = 200
"""So many uses are shown with a type."""


class InstanceTypeView(BaseModel):
    id: str = Field(description="names it for good", examples=["cpu-1"])
    name: str = Field(description="for people", examples=["One core"])
    cpu: float = Field(description="cores", examples=[0.5])
    memory: int = Field(description="bytes", examples=[2147483648])
    gpu: float | str = Field(description="cards, or text with the model", examples=["0.2(T4)"])
    node_selector: dict[str, str] = Field(description="labels that a node must have", examples=[{"disk": "ssd"}])
    tolerations: list[Toleration] = Field(description="taints that a node may have")
    groups: list[str] | None = Field(
        description="null: all; otherwise those of them that you may see", examples=[["risk"]]
    )
    created_at: Timestamp = Field(description="when it was made")
    updated_at: Timestamp = Field(description="when it was last changed")


class TypeUse(BaseModel):
    """A version of a live deployment that runs on this type."""

    deployment: str = Field(description="its id", examples=["churn"])
    group: str = Field(description="the deployment's", examples=["risk"])
    version: int = Field(description="the number under which the deployment has it", examples=[2])
    model: str = Field(description="the model version that is served", examples=["risk/churn/3"])
    stopped: bool = Field(description="a stopped one uses nothing now, but needs the type to be started again")
    phase: str = Field(description="of the deployment", examples=["Deployed"])


class InstanceTypeDetail(InstanceTypeView):
    """With who would feel it if the type changed or went."""

    deployments: list[TypeUse] = Field(description=f"the live ones on it that you may see, at most {MOST_USES}")
    deployments_total: int = Field(description="number of all live deployments on it", examples=[3])
