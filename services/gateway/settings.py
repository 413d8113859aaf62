"""The gateway's settings, from the environment (`MOORAGE_…`)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from services.gateway.oidc.settings import IdentityProvider
from shared.settings import ServiceSettings

_DOCUMENTS = Path(__file__).parents[2] / "docs"


class GatewaySettings(ServiceSettings):
    xds_host: str = Field(default="127.0.0.1", description="address that Envoys reach the control plane at")
    xds_port: Annotated[int, Field(ge=0, le=65535, description="port of the control plane")] = 18000
    snapshot_path: Path = Field(description="file that keeps what Envoy has acknowledged, for when we are away")
    openapi_file: Path = Field(
        default=_DOCUMENTS / "openapi.json",
        description="the merged OpenAPI document (python -m deploy.openapi); errors.md lies beside it",
    )
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400, description="life of an access token")] = 3_600
    refresh_token_seconds: Annotated[int, Field(ge=60, le=31_536_000, description="life of a refresh token")] = (
        2_592_000
    )
    oidc_providers: tuple[IdentityProvider, ...] = Field(
        default=(), description="identity providers that people sign in with, a JSON list (docs/access.md)"
    )
    gateway_name: Annotated[
        str,
        Field(pattern=r"^[a-z0-9-]{1,40}$", description="one of its own for each gateway: each has to see every event"),
    ] = "gateway"
    envoy_gone_seconds: Annotated[
        float,
        Field(ge=1, le=86_400, description="seconds that an Envoy counts after the last word of it"),
    ] = 60.0

    @field_validator("oidc_providers")
    @classmethod
    def _told_apart(cls, providers: tuple[IdentityProvider, ...]) -> tuple[IdentityProvider, ...]:
        if len({each.name for each in providers}) < len(providers):
            raise ValueError("two have the same name")
        return providers
