"""Where a request comes from."""

from fastapi import Request


def address_of(request: Request) -> str:
    """Envoy appends that to X-Forwarded-For; what stands before it anybody may write."""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    return forwarded or (request.client.host if request.client else "")
