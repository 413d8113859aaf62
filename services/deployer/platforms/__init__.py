"""Where replicas run: the `Platform` protocol, and a package for each platform behind it."""

from services.deployer.platforms.platform import (
    Cause,
    Evidence,
    Failure,
    Model,
    Phase,
    Platform,
    PlatformError,
    Probe,
    Replica,
    ReplicaNotFound,
    Resources,
    Template,
    Usage,
    Workload,
    surge,
)

__all__ = [
    "Cause",
    "Evidence",
    "Failure",
    "Model",
    "Phase",
    "Platform",
    "PlatformError",
    "Probe",
    "Replica",
    "ReplicaNotFound",
    "Resources",
    "Template",
    "Usage",
    "Workload",
    "surge",
]
