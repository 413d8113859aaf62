"""What a replica's next run is made from, kept beside it: sealed, since it holds the secrets of its environment.

The deployer tells only of the template that is wanted now. A replica of the template before, which serves on while an
update fails, would otherwise not be started again by a deployer that was itself started meanwhile.
"""

from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from services.deployer.platforms.platform import Workload
from shared.secrets import Tampered, Vault

__all__ = ["opened", "sealed"]

_PURPOSE = "replica"
_WORKLOAD = TypeAdapter(Workload)


def sealed(workload: Workload, *, vault: Vault) -> bytes:
    lasting = replace(workload, keep=frozenset(), serving=frozenset())
    return vault.seal(_WORKLOAD.dump_json(lasting), purpose=_PURPOSE)


def opened(content: bytes, *, digest: str, vault: Vault) -> Workload | None:
    """None where it was sealed under another key, or by a release that meant something else by it."""
    try:
        workload = _WORKLOAD.validate_json(vault.open(content, purpose=_PURPOSE))
    except (Tampered, ValidationError):
        return None
    return workload if workload.template.digest == digest else None
