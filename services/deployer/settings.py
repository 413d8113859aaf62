"""The deployer's settings."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from shared.settings import ServiceSettings


class DeployerSettings(ServiceSettings):
    platform: Literal["local", "kubernetes"] = Field(default="local", description="where replicas run")
    local_folder: Path = Field(default=Path("replicas"), description="state, logs and models of the local platform")
    local_address: str = Field(
        default="127.0.0.1",
        description="address that replicas of the local platform listen on: one that Envoy reaches, and nobody else",
    )
    registry_url: str = Field(default="http://127.0.0.1:8081", description="where replicas pull uploaded models")
    pull_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = Field(
        default=900, description="how long the address that a replica pulls its model from is good"
    )
    versions_limit: Annotated[int, Field(ge=1, le=50)] = Field(default=6, description="most live versions a deployment")
    reconcile_workers: Annotated[int, Field(ge=1, le=100)] = Field(default=16, description="keys worked on at once")
    resync_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="how often it looks for what lost wake-ups have left"
    )
    kubernetes_config: Path | None = Field(
        default=None, description="kubeconfig file; without one the service account of our pod, else $KUBECONFIG"
    )
    kubernetes_context: str | None = Field(default=None, description="its context, where it is not the current one")
    kubernetes_model_server_image: str | None = Field(
        default=None,
        validate_default=True,
        description="image of deploy/docker/modelserver.Dockerfile, as nodes pull it; needed on Kubernetes",
    )
    kubernetes_pull_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="pull secrets that are in the namespaces already, separated by commas"
    )
    kubernetes_installation: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] = Field(
        default="moorage",
        description="this installation's name on the cluster; where several share one, each needs its own, or it ends "
        "the others' replicas as orphans",
    )
    kubernetes_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=10001,
        description="user that replicas run as, whatever their image says; empty leaves it to the image, and refuses "
        "one that is root's or names its user instead of numbering it",
    )
    kubernetes_drain_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        default=5, description="how long a pod that others delete (an eviction) goes on serving"
    )
    kubernetes_gpu_resource: str = Field(default="nvidia.com/gpu", description="what nodes call a whole card")
    kubernetes_gpu_model_label: str = Field(
        default="nvidia.com/gpu.product", description="the label that nodes carry the model of their cards in"
    )
    kubernetes_gpu_fraction_resource: str | None = Field(
        default=None,
        description="what a plugin that shares cards calls its units; without one, whole cards only",
    )
    kubernetes_gpu_fraction_units: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100, description="how many of those units make a card"
    )
    kubernetes_namespace: Annotated[str, Field(pattern=r"^[a-z0-9-]*(\{group\})?[a-z0-9-]*$", min_length=1)] = Field(
        default="moorage-{group}",
        description="where a group's objects are: with {group} a namespace each, made on demand; without, one for all, "
        "which exists, and then only admins may name the claims in it",
    )
    kubernetes_nfs_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="NFS servers that any editor may mount, as server or server:/path, separated by commas; those that "
        "are not listed, admins only",
    )
    kubernetes_external_ips: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="networks that a service's external IPs may be of, separated by commas; none by default"
    )

    @field_validator("kubernetes_model_server_image")
    @classmethod
    def _needed_there(cls, value: str | None, known: ValidationInfo) -> str | None:
        if known.data.get("platform") == "kubernetes" and not value:
            raise ValueError("is needed with MOORAGE_PLATFORM=kubernetes")
        return value

    @field_validator("kubernetes_user", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("kubernetes_nfs_servers", "kubernetes_external_ips", "kubernetes_pull_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value
