"""Settings of the metrics service."""

from typing import Annotated

from pydantic import Field

from shared.settings import ServiceSettings


class MetricsSettings(ServiceSettings):
    envoy_admin_url: str = Field(
        default="http://127.0.0.1:9901",
        pattern=r"^https?://[^\s,]+(,https?://[^\s,]+)*$",
        description="address of Envoy's admin; of several Envoys, separated by commas",
    )
    scrape_seconds: Annotated[float, Field(ge=0.1, le=60, description="how often each Envoy is asked")] = 5
    metrics_raw_hours: Annotated[float, Field(ge=1, description="how long 5 s samples are kept")] = 24
    metrics_minute_days: Annotated[float, Field(ge=1, description="how long samples of a minute are kept")] = 30
    metrics_hour_days: Annotated[float, Field(ge=1, description="how long samples of an hour are kept")] = 730

    @property
    def envoys(self) -> tuple[str, ...]:
        return tuple(url.rstrip("/") for url in self.envoy_admin_url.split(","))
