"""The serving runtimes, as data: what a replica runs for a version, and which artifacts it can take. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["RUNTIMES", "Runtime"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One serving runtime. `command` and `args` may hold `$(NAME)`, as in `platforms.Template`."""

    id: str
    title: str
    description: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    health_path: str
    protocols: tuple[str, ...]
    schemes: tuple[str, ...]
    """Of a model's artifact: `registry` is pulled and checked by its digest, `file` is read where it lies."""
    start_seconds: float = 600.0
    grace_seconds: float = 30.0


RUNTIMES = {
    runtime.id: runtime
    for runtime in (
        Runtime(
            id="inference",
            title="Inference service",
            description="The model's own class `InferenceService`, served by the platform's model server.",
            command=("python", "-m", "modelserver"),
            args=(
                *("--model-path", "$(MOORAGE_MODEL_PATH)"),
                *("--name", "$(MOORAGE_MODEL_NAME)", "--version", "$(MOORAGE_MODEL_VERSION)"),
                *("--deployment", "$(MOORAGE_DEPLOYMENT)", "--deployment-version", "$(MOORAGE_VERSION)"),
                *("--host", "$(MOORAGE_HOST)", "--port", "$(MOORAGE_PORT)"),
            ),
            health_path="/readyz",
            protocols=("predict",),
            schemes=("registry", "file"),
        ),
    )
}
"""Every runtime by its id."""
