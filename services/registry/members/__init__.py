"""Members of a group, each with one of three nested permissions: read ⊂ edit ⊂ manage."""

from services.registry.members.api import router

__all__ = ["router"]
