"""What the API answers."""

from typing import Any

from pydantic import BaseModel, Field

from services.metrics.domain import METRICS, UNITS
from shared.http import Timestamp

Point = tuple[str, float | None]


class Series(BaseModel):
    metric: str = Field(description="one of " + ", ".join(METRICS), examples=["latency_p95"])
    unit: str = Field(description="what the values are", examples=[UNITS["latency_p95"]])
    labels: dict[str, Any] = Field(
        description="what the series is about, one member for each of `by`; null: no version was reached, no client is"
        " known",
        examples=[{"version": 1, "client": "ana"}],
    )
    points: list[Point] = Field(
        description="[time, value]; the value covers the `step` from that time on; null: nothing to tell a rate or a"
        " quantile from",
        examples=[[["2026-11-20T19:00:00Z", 0.0042], ["2026-11-20T19:01:00Z", None]]],
    )


class Figures(BaseModel):
    """Totals over the whole range."""

    requests: int = Field(description="all of them", examples=[1000])
    successes: int = Field(description="all but 4xx and 5xx", examples=[990])
    client_errors: int = Field(description="4xx", examples=[7])
    server_errors: int = Field(description="5xx", examples=[3])
    requests_per_second: float = Field(description="mean over the range", examples=[0.278])
    success_rate: float | None = Field(description="successes / requests; null without requests", examples=[0.99])
    latency_p50: float | None = Field(
        description="seconds, of all answers but 4xx; null without any", examples=[0.0042]
    )
    latency_p90: float | None = Field(description="seconds", examples=[0.0061])
    latency_p95: float | None = Field(description="seconds", examples=[0.0085])
    latency_p99: float | None = Field(description="seconds", examples=[0.021])


class Metrics(BaseModel):
    start: Timestamp = Field(serialization_alias="from", description="`from`, aligned to the step")
    end: Timestamp = Field(serialization_alias="to", description="`to`, aligned to the step")
    step: int = Field(description="seconds from point to point, in effect", examples=[60])
    summary: Figures = Field(description="of the whole range, over all series; latencies only if they are asked for")
    series: list[Series] = Field(description="one for each metric, and each combination of what `by` names")


class ClientFigures(BaseModel):
    """Totals over the whole range; latencies are not told apart by client."""

    client: str | None = Field(description="null: public, or refused before it was known", examples=["ana"])
    requests: int = Field(description="all of them", examples=[1000])
    successes: int = Field(description="all but 4xx and 5xx", examples=[990])
    client_errors: int = Field(description="4xx", examples=[7])
    server_errors: int = Field(description="5xx", examples=[3])
    requests_per_second: float = Field(description="mean over the range", examples=[0.278])
    success_rate: float | None = Field(description="successes / requests; null without requests", examples=[0.99])


class VersionFigures(Figures):
    version: int | None = Field(description="null: refused or answered before a version was chosen", examples=[1])


class DeploymentFigures(Figures):
    deployment: str = Field(description="its id", examples=["churn"])
    uid: str = Field(
        description="tells deployments apart that had the same id one after the other",
        examples=["0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"],
    )
    group: str = Field(description="the deployment's", examples=["risk"])


class Summary(BaseModel):
    start: Timestamp = Field(description="`from`, aligned", serialization_alias="from")
    end: Timestamp = Field(description="`to`, aligned", serialization_alias="to")
    total: Figures
    codes: dict[str, int] = Field(description="requests by status code", examples=[{"200": 990, "404": 7, "503": 3}])
    versions: list[VersionFigures] = Field(description="one for each version that was called")
    clients: list[ClientFigures] = Field(description="one for each client that has called")


class PlatformSummary(BaseModel):
    start: Timestamp = Field(description="`from`, aligned", serialization_alias="from")
    end: Timestamp = Field(description="`to`, aligned", serialization_alias="to")
    total: Figures
    codes: dict[str, int] = Field(description="requests by status code", examples=[{"200": 990, "404": 7, "503": 3}])
    deployments: list[DeploymentFigures] = Field(description="those with requests, the busiest first, at most `limit`")
