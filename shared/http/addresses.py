"""Where a request comes from."""

from fastapi import Request


def address_of(request: Request) -> str:
    """As Envoy says, which knows the proxies before it, and overwrites what a caller says. X-Forwarded-For is no help:
    which of its entries is true depends on how many those are."""
    return request.headers.get("x-envoy-external-address") or (request.client.host if request.client else "")
