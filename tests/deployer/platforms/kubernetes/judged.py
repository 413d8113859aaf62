"""Pods, Deployments and warnings as the store keeps them, for what is said of them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.objects import (
    Condition,
    Container,
    Pod,
    PodWarning,
    Root,
    Running,
    Terminated,
)

UID = UUID("0b2f8a4e-6f4a-4c1e-9d9e-0d5a3f1f2a77")
NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
BORN = NOW - timedelta(seconds=300)
ROOT = "churn-v1-0b2f8a4e"
PATIENCE = 30.0

DONE = Terminated(0, "Completed", "", BORN, BORN)


def at(seconds: float) -> datetime:
    return BORN + timedelta(seconds=seconds)


def ended(code: int, *, reason: str = "Error", message: str = "", began: float = 10, took: float = 5) -> Terminated:
    return Terminated(code, reason, message, at(began), at(began + took))


def container(name: str = names.CONTAINER, **facts: Any) -> Container:
    given = {
        "image": "registry.example/churn:7",
        "memory_limit": "64Mi",
        "start_seconds": 60,
        "ready": False,
        "started": False,
        "restarts": 0,
        "state": Running(at(10)),
        "last": None,
        **facts,
    }
    return Container(name=name, **given)


def condition(type_: str, status: bool, *, since: float = 0, reason: str = "", message: str = "") -> Condition:
    return Condition(type_, str(status), reason, message, at(since))


def pod(*containers: Container, conditions: tuple[Condition, ...] = (), **facts: Any) -> Pod:
    given: dict[str, Any] = {
        "uid": "p1",
        "name": f"{ROOT}-5d9c-x7k2p",
        "namespace": "moorage-risk",
        "deployment": UID,
        "version": 1,
        "labels": {names.DEPLOYMENT: "churn"},
        "annotations": {names.TEMPLATE: "digest", names.REVISION: "r1"},
        "created_at": BORN,
        "deleting_since": None,
        "resource_version": 1,
        "phase": "Running",
        "reason": "",
        "message": "",
        "ip": "10.244.0.7",
        "conditions": (condition("ContainersReady", False), *conditions),
        "init_containers": (),
        **facts,
    }
    return Pod(containers=containers or (container(),), **given)


def root(**facts: Any) -> Root:
    given: dict[str, Any] = {
        "uid": "d1",
        "name": ROOT,
        "namespace": "moorage-risk",
        "deployment": UID,
        "version": 1,
        "labels": {},
        "annotations": {},
        "created_at": BORN,
        "deleting_since": None,
        "resource_version": 1,
        "fingerprint": "f",
        "replicas": 1,
        "available": 0,
        "max_surge": "25%",
        "template_annotations": {names.TEMPLATE: "digest", names.REVISION: "r1"},
        "generation": 1,
        "observed_generation": 1,
        "conditions": (),
        **facts,
    }
    return Root(**given)


def warning(reason: str, message: str, *, version: int = 1, count: int = 1) -> PodWarning:
    return PodWarning(
        uid=f"e{version}", pod="p1", reason=reason, message=message, count=count, resource_version=version
    )
