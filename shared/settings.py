"""Settings that every service reads, from the environment (`MOORAGE_…`).

A service derives its own class; only its `app.py` and `__main__.py` read one. Values are validated at start, so that a
wrong setting ends the process with a clear message instead of failing later.
"""

from base64 import b64decode
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PostgresDsn, SecretStr, UrlConstraints, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _without_slash(url: str) -> str:
    return url.rstrip("/")


class StateSettings(BaseSettings):
    """Where the state is kept, and what carries the events."""

    model_config = SettingsConfigDict(env_prefix="MOORAGE_", extra="ignore", frozen=True)

    database_url: Annotated[PostgresDsn, UrlConstraints(allowed_schemes=["postgresql"])] = Field(
        description="postgresql://user:password@host:port/name"
    )
    bus: Annotated[str, Field(pattern=r"^(postgres|kafka://[^,/@\s]+:\d+(,[^,/@\s]+:\d+)*)$")] = Field(
        default="postgres", description="what carries the events: postgres, or kafka://host:port[,host:port…]"
    )
    bus_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = Field(
        default="", description="before the name of each topic and group, for several installations on one Kafka"
    )
    bus_partitions: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=8, description="partitions of the Kafka topics that are created: how many processes can share the work"
    )
    bus_replication: Annotated[int | None, Field(ge=1, le=10)] = Field(
        default=None, description="copies of the Kafka topics that are created; without it the brokers' default"
    )
    # The inbox remembers events for 14 days: none may come again after that.
    bus_retention_days: Annotated[float, Field(gt=0, le=10)] = Field(default=7, description="how long events are kept")
    bus_tls: bool = Field(default=False, description="reach Kafka over TLS")
    bus_tls_ca: str | None = Field(default=None, description="file of the CA that signed the brokers' certificates")
    bus_tls_certificate: str | None = Field(default=None, description="file of our certificate, for mutual TLS")
    bus_tls_key: str | None = Field(default=None, description="file of its key")
    bus_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="how we sign in to Kafka; PLAIN shows the password to the network unless there is TLS"
    )
    bus_username: str | None = Field(default=None, validate_default=True, description="whom we sign in to Kafka as")
    bus_password: SecretStr | None = Field(default=None, validate_default=True, description="and with which password")

    @field_validator("bus_username", "bus_password")
    @classmethod
    def _needed_to_sign_in(cls, value: object, known: ValidationInfo) -> object:
        if known.data.get("bus_sasl") and not value:
            raise ValueError("is needed with MOORAGE_BUS_SASL")
        return value

    @property
    def bus_retention(self) -> timedelta:
        return timedelta(days=self.bus_retention_days)


class ServiceSettings(StateSettings):
    secret_key: SecretStr = Field(description="32 random bytes in base64: the root of every key that we derive")
    host: str = Field(default="127.0.0.1", description="address that the service listens on")
    port: Annotated[int, Field(ge=0, le=65535, description="port that the service listens on; 0 takes a free one")] = 0
    database_connections: Annotated[int, Field(ge=6, le=200, description="most connections to PostgreSQL")] = 12
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+[^?#\s]*$"), AfterValidator(_without_slash)] = Field(
        default="http://127.0.0.1:8080", description="where clients reach the front door"
    )
    web_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/?#\s]+$")], ...] = Field(
        default=(), description="other web pages that may call the API (CORS) and take sign-ins, a JSON list of origins"
    )

    @field_validator("secret_key")
    @classmethod
    def _thirty_two_bytes(cls, value: SecretStr) -> SecretStr:
        try:
            size = len(b64decode(value.get_secret_value(), validate=True))
        except ValueError as error:
            raise ValueError("is not base64") from error
        if size != 32:
            raise ValueError(f"holds {size} bytes; 32 random bytes in base64 are needed (openssl rand -base64 32)")
        return value

    @property
    def root_key(self) -> bytes:
        return b64decode(self.secret_key.get_secret_value())
