"""Bodies of the versions API; a version's own are those of the deployment it belongs to."""

from pydantic import BaseModel, Field

from services.deployer.deployments.schemas import LiveVersionView


class VersionList(BaseModel):
    items: list[LiveVersionView] = Field(description="by number")
    next: str | None = Field(default=None, description="always null: there is one page")
