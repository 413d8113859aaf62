"""The address that a replica pulls an uploaded model from: the registry's, signed and good for a while."""

import time
from collections.abc import Callable

from shared.secrets import Vault

__all__ = ["presigned"]


def presigned(vault: Vault, *, registry_url: str, seconds: int) -> Callable[[str], str]:
    """A function from a digest (`sha256:<hex>`) to such an address, made anew for each run of a replica."""

    def url(digest: str) -> str:
        expires = int(time.time()) + seconds
        signature = vault.sign(f"{digest} {expires}", purpose="pull")
        return f"{registry_url.rstrip('/')}/api/v1/artifacts/{digest}?expires={expires}&signature={signature}"

    return url
