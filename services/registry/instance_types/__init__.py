"""Instance types: the sizes on offer, open to all groups or to some."""

from services.registry.instance_types.api import router

__all__ = ["router"]
