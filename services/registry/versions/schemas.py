"""Bodies of model versions."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from services.registry.artifacts.schemas import Uri
from services.registry.documents import check_document
from services.registry.models.schemas import Framework
from shared.http import Body, Timestamp
from shared.http.schemas import Text

MOST_POINTS = 100_000
"""Of all curves of a version together."""
LARGE = 10_000
"""A curve with more points than these is read by its own address."""


def _checked(value: Any) -> Any:
    check_document(value)
    return value


PartKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ArtifactIn = Uri | Annotated[dict[PartKey, Uri], Field(min_length=1, max_length=100)]
Document = Annotated[dict[str, Any], AfterValidator(_checked)]
MetricsIn = Text | Document

CurveName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f/]+$", max_length=100)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Point = tuple[Number, Number | None]
Curves = Annotated[dict[CurveName, list[Point]], Field(max_length=100)]


def _bounded(curves: dict[str, list[Point]]) -> dict[str, list[Point]]:
    if sum(map(len, curves.values())) > MOST_POINTS:
        raise ValueError(f"have more than {MOST_POINTS} points together")
    return curves


class VersionCreate(Body):
    artifact: ArtifactIn = Field(
        description="where the bytes are: one address, or several by key, pulled one by one",
        examples=["registry://sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    framework: Framework = Field(default="", description="what it was made with", examples=["sklearn"])
    metrics: MetricsIn | None = Field(
        default=None, description="text, or a JSON object, shown as `key=value, …` in lists", examples=[{"auc": 0.91}]
    )
    parameters: Document = Field(default_factory=dict, description="what it was trained with", examples=[{"depth": 6}])
    curves: Annotated[Curves, AfterValidator(_bounded)] = Field(
        default_factory=dict,
        description=f"training curves: name → [[step, value], …]; at most {MOST_POINTS} points together; a value may be"
        " null",
        examples=[{"loss": [[1, 0.7], [2, 0.4]]}],
    )
    description: Text = Field(default="", description="for people", examples=["With the features of June."])


class MlflowImport(Body):
    """What was uploaded of MLflow's files."""

    artifact: Uri = Field(
        description="registry:// address of a model's folder (with MLmodel), which becomes the version's artifact; a"
        " run's folder is taken too",
        examples=["registry://sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    run: Uri | None = Field(
        default=None,
        description="registry:// address of the run's folder (meta.yaml, metrics, params, tags), if it is another",
    )


class Serving(BaseModel):
    """A live deployment that stands on this version."""

    deployment: str = Field(description="its id", examples=["churn"])
    group: str = Field(description="the deployment's", examples=["risk"])
    version: int = Field(description="the number under which the deployment has it", examples=[2])
    weight: float = Field(description="share of the deployment's traffic, in percent", examples=[10])
    stopped: bool = Field(description="a stopped one serves nobody, but can be started again")
    phase: str = Field(description="of the deployment", examples=["Deployed"])


class VersionSummary(BaseModel):
    """A version as lists show it."""

    number: int = Field(description="counts from 1 in the model", examples=[3])
    artifact: str | dict[str, str] = Field(
        description="where the bytes are, as it was registered",
        examples=["registry://sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    framework: str = Field(description="what it was made with", examples=["sklearn"])
    metrics_summary: str = Field(description="its metrics as one line", examples=["auc=0.91, loss=0.32"])
    description: str = Field(description="for people", examples=["With the features of June."])
    digest: str | None = Field(
        description="SHA-256 of the bytes, if the artifact is one upload",
        examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    size: int | None = Field(description="bytes, if known", examples=[1048576])
    run: str | None = Field(description="the run that registered it", examples=["train-2031-07-01"])
    aliases: list[str] = Field(description="those that name it now", examples=[["champion"]])
    deployments: list[Serving] = Field(description="those of them that you may see")
    created_by: str = Field(description="who registered it", examples=["ana"])
    created_at: Timestamp = Field(description="when it was registered")


class VersionView(VersionSummary):
    group: str = Field(description="whose model it is", examples=["risk"])
    model: str = Field(description="the model's name", examples=["churn"])
    metrics: str | dict[str, Any] | None = Field(
        description="as they were registered", examples=[{"auc": 0.91, "loss": 0.32}]
    )
    parameters: dict[str, Any] = Field(description="what it was trained with", examples=[{"depth": 6}])
    curves: dict[str, list[list[float | None]]] = Field(
        description=f"those with at most {LARGE} points; with `points`, all of them",
        examples=[{"loss": [[1, 0.7], [2, 0.4]]}],
    )
    large_curves: dict[str, int] = Field(
        description="name → number of points of the other ones; read them at …/curves/{name}",
        examples=[{"loss": 48000}],
    )
    example: dict[str, Any] | None = Field(
        description="the body of one request that the model takes: `example.json` in its uploaded folder",
        examples=[{"type": "dense", "feature_num": "2", "data": {"insts": [[1, 2]]}}],
    )


class CurveView(BaseModel):
    name: str = Field(description="of the curve", examples=["loss"])
    total: int = Field(description="number of points that are stored", examples=[48000])
    points: list[list[float | None]] = Field(description="[[step, value], …]", examples=[[[1, 0.7], [2, 0.4]]])
