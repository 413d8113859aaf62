"""Artifacts: the bytes of models, uploaded to us and kept by their content, or lying elsewhere by address."""

from services.registry.artifacts.api import router

__all__ = ["router"]
