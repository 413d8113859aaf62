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

    key: LabelKey | None = Field(default=None, examples=["nvidia.com/gpu"])
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000, strict=True)] | None = Field(
        default=None, description="seconds"
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
    tolerations: Tolerations = Field(default_factory=list)
    groups: Groups | None = Field(default=None, description=_GROUPS_FIELD, examples=[["risk"]])


class InstanceTypePatch(Body):
    """A JSON merge patch: null clears, where there is something to fall back to."""

    name: Title | None = None
    cpu: Annotated[Cores, _CPU] | None = None
    memory: Annotated[Bytes, _MEMORY] | None = None
    gpu: GpuShare | None = Field(default=None, description=_GPU_FIELD, examples=["1(V100)"])
    node_selector: dict[LabelKey, LabelValue | None] | None = Field(
        default=None, description="labels that a node must have; a label's null removes it", max_length=50
    )
    tolerations: Tolerations | None = None
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
    id: str = Field(examples=["cpu-1"])
    name: str = Field(examples=["One core"])
    cpu: float = Field(description="cores", examples=[0.5])
    memory: int = Field(description="bytes", examples=[2147483648])
    gpu: float | str = Field(description="cards, or text with the model", examples=["0.2(T4)"])
    node_selector: dict[str, str]
    tolerations: list[Toleration]
    groups: list[str] | None = Field(description="null: all; otherwise those of them that you may see")
    created_at: Timestamp
    updated_at: Timestamp


class TypeUse(BaseModel):
    """A version of a live deployment that runs on this type."""

    deployment: str = Field(examples=["churn"])
    group: str = Field(examples=["risk"])
    version: int = Field(description="the number under which the deployment has it", examples=[2])
    model: str = Field(examples=["risk/churn/3"])
    stopped: bool = Field(description="a stopped one uses nothing now, but needs the type to be started again")
    phase: str = Field(examples=["Deployed"])


class InstanceTypeDetail(InstanceTypeView):
    """With who would feel it if the type changed or went."""

    deployments: list[TypeUse] = Field(description=f"the live ones on it that you may see, at most {MOST_USES}")
    deployments_total: int = Field(description="number of all live deployments on it", examples=[3])
