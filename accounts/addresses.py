"""Where a request comes from. The one place that knows: limits and the lockout of the admin ask here."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request


def address_of(request: HttpRequest | Request) -> str | None:
    return _address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def address_of_scope(scope: dict[str, Any]) -> str | None:
    """The same of a WebSocket, which has no request."""
    peer = (scope.get("client") or [""])[0]
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return _address(peer, ",".join(forwarded))


def _address(peer: str, forwarded: str) -> str | None:
    """The client's, in its one spelling; None for who comes by a Unix socket and not through a proxy.

    Each proxy adds who came to it at the end. So of N that are trusted the first one added the Nth from the end, and
    what stands before that is the client's invention.
    """
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()][-settings.TRUSTED_PROXIES :]
    claimed = _parsed(hops[0]) if settings.TRUSTED_PROXIES and hops else None
    address = claimed or _parsed(peer)
    return str(address) if address else None


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Also with a port, as some proxies write it."""
    host, bracket, _ = text.removeprefix("[").partition("]")
    if not bracket and text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str | None) -> str:
    """Whom to hold responsible: an IPv6 client has a whole /64 to itself."""
    if address is None or ":" not in address:
        return address or "local"
    return str(IPv6Address(int(IPv6Address(address)) >> 64 << 64))
