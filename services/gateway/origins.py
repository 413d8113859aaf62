"""Where a web page is from: scheme, host and port, as browsers compare them (RFC 6454). Pure."""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


class WebOrigin(NamedTuple):
    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "WebOrigin | None":
        """None of what has none: `null`, another scheme, what is no address."""
        try:
            parts = urlsplit(url)
            port = parts.port if parts.port is not None else _PORTS[parts.scheme]
        except (ValueError, KeyError):
            return None
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return cls(parts.scheme, parts.hostname.rstrip("."), port)


def is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
