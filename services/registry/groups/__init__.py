"""Groups: who works together, what they may use, and whether they may deploy."""

from services.registry.groups.api import router

__all__ = ["router"]
