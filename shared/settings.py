"""Settings that every service reads, from the environment (`MOORAGE_…`).

A service derives its own class; only its `app.py` and `__main__.py` read one. Values are validated at start, so that a
wrong setting ends the process with a clear message instead of failing later.
"""

from base64 import b64decode
from typing import Annotated, Literal

from pydantic import Field, PostgresDsn, SecretStr, UrlConstraints, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MOORAGE_", extra="ignore", frozen=True)

    database_url: Annotated[PostgresDsn, UrlConstraints(allowed_schemes=["postgresql"])] = Field(
        description="postgresql://user:password@host:port/name"
    )
    secret_key: SecretStr = Field(description="32 random bytes in base64: the root of every key that we derive")
    host: str = Field(default="127.0.0.1", description="address that the service listens on")
    port: Annotated[int, Field(ge=0, le=65535, description="port that the service listens on; 0 takes a free one")] = 0
    database_connections: Annotated[int, Field(ge=2, le=200, description="most connections to PostgreSQL")] = 10
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    public_url: str = Field(default="http://127.0.0.1:8080", description="where clients reach the front door")

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
