"""Bodies of groups and quotas."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer, StrictBool

from shared.http import Body, DnsLabel, Timestamp
from shared.http.schemas import Title
from shared.quantities import Bytes, Cores

Cards = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=3), PlainSerializer(float, return_type=float)]
"""GPU cards, fractions allowed."""

Count = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class Quota(Body):
    """What the live deployments of a group may reserve together; null is no limit."""

    cpu: Cores | None = Field(default=None, description="cores", examples=[16])
    memory: Bytes | None = Field(default=None, description="bytes; going in, also as `64Gi`", examples=[64 * 2**30])
    gpu: Cards | None = Field(default=None, description="cards; fractions count as such", examples=[2])
    deployments: Count | None = Field(default=None, description="number of deployments", examples=[10])

    def columns(self, *, only_given: bool) -> dict[str, Any]:
        """By the names of the columns; `only_given` leaves out what the request did not name."""
        names = self.model_fields_set if only_given else set(type(self).model_fields)
        return {f"quota_{name}": getattr(self, name) for name in sorted(names)}


class GroupCreate(Body):
    id: DnsLabel = Field(description="never changes", examples=["risk"])
    name: Title | None = Field(default=None, description="for people; the id if left out", examples=["Risk"])
    deployment_enabled: StrictBool = Field(default=True, description="false forbids the group to deploy")
    quota: Quota = Field(default_factory=Quota)


class GroupPatch(Body):
    """A JSON merge patch: null clears (the name falls back to the id, the switch to on, a quota to no limit)."""

    name: Title | None = Field(default=None, description="managers may change it", examples=["Risk and fraud"])
    deployment_enabled: StrictBool | None = Field(default=None, description="for platform admins")
    quota: Quota | None = Field(default=None, description="for platform admins; null removes every limit")


class GroupView(BaseModel):
    id: str = Field(description="names it for good", examples=["risk"])
    name: str = Field(description="for people", examples=["Risk"])
    deployment_enabled: bool = Field(description="whether the group may deploy", examples=[True])
    quota: Quota = Field(description="what its deployments may reserve together")
    personal: bool = Field(description="whether it is a user's own group")
    created_at: Timestamp = Field(description="when it was made")
    updated_at: Timestamp = Field(description="when it was last changed")


class CoresUse(BaseModel):
    used: float = Field(description="cores", examples=[3.5])
    limit: float | None = Field(description="cores; null: no limit", examples=[16])


class BytesUse(BaseModel):
    used: int = Field(description="bytes", examples=[8589934592])
    limit: int | None = Field(description="bytes; null: no limit", examples=[68719476736])


class CardsUse(BaseModel):
    used: float = Field(description="GPU cards", examples=[0.2])
    limit: float | None = Field(description="GPU cards; null: no limit", examples=[2])


class CountUse(BaseModel):
    used: int = Field(description="deployments that are not stopped", examples=[3])
    limit: int | None = Field(description="most of them; null: no limit", examples=[10])


class DeploymentUse(BaseModel):
    """What one deployment has reserved: every live version at its most replicas."""

    deployment: str = Field(description="its id", examples=["churn"])
    created_by: str = Field(description="who made it", examples=["ana"])
    cpu: float = Field(description="cores", examples=[2])
    memory: int = Field(description="bytes", examples=[4294967296])
    gpu: float = Field(description="cards", examples=[0.2])


class QuotaView(BaseModel):
    """Stopped deployments reserve nothing."""

    cpu: CoresUse = Field(description="processor cores")
    memory: BytesUse = Field(description="main memory")
    gpu: CardsUse = Field(description="GPU cards, whole or in parts")
    deployments: CountUse = Field(description="how many deployments")
    by: list[DeploymentUse] = Field(description="the deployments that count, the largest first")
