"""Bodies of sign-in by identity providers."""

from pydantic import BaseModel, Field


class ProviderView(BaseModel):
    name: str = Field(description="give it as `provider` to `/auth/login`", examples=["corp"])
    title: str = Field(description="for people", examples=["Sign in with Corp"])
    login_url: str = Field(description="where to send the browser", examples=["/api/v1/auth/login?provider=corp"])


class Providers(BaseModel):
    items: list[ProviderView] = Field(description="in the order of the settings")
