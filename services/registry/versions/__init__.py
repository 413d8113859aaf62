"""Versions of models: what was registered, by whom, from which run, and which deployments stand on it now."""

from services.registry.versions.api import router

__all__ = ["router"]
