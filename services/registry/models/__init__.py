"""Models: named in a group, with tags and aliases. Their versions are the neighbour folder's."""

from services.registry.models.api import router

__all__ = ["router"]
