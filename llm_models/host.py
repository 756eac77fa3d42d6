"""Where Ollama is: what settings.OLLAMA_URL means, and where this process has been sent instead."""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

OLLAMA_PORT = 11434
_ports = {"http": 80, "https": 443}
# Addresses to listen on, not to connect to; people give Ollama's own OLLAMA_HOST to its clients.
_reachable_as = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class _Host:
    url: str
    is_standin: bool


_chosen: _Host | None = None


def use(url: str | None, *, standin: bool = False) -> None:
    """Send every request of this process there from now on; None: back to settings.OLLAMA_URL."""
    global _chosen
    _chosen = None if url is None else _Host(base_url(url), standin)


def urls() -> tuple[str, ...]:
    """The base URLs in use, without a slash at their ends."""
    return (_chosen.url,) if _chosen else base_urls(settings.OLLAMA_URL)


def url() -> str:
    """The base URL in use. Several servers have one together, by which to tell what they said from what others do."""
    return ",".join(urls())


def address(base: str) -> str:
    """Host and port, to be shown: without the password that the URL may hold."""
    return urlsplit(base).netloc.rpartition("@")[2]


def is_standin() -> bool:
    return _chosen is not None and _chosen.is_standin


@lru_cache(maxsize=16)
def base_urls(text: str) -> tuple[str, ...]:
    """Of one or several servers, separated by commas or spaces; each once, in the order given."""
    given = [part for part in re.split(r"[,\s]+", text) if part.strip("\"'")]
    return tuple(dict.fromkeys(map(base_url, given or [""])))


def base_url(text: str) -> str:
    """Read as Ollama's own command line reads OLLAMA_HOST: scheme and port may be missing, a path is kept."""
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("https", text) if text == "ollama.com" else ("http", text)
    scheme = scheme.lower()
    if scheme not in _ports:
        raise ImproperlyConfigured(f"OLLAMA_URL must be http:// or https://, not {scheme}://")
    authority, _, path = rest.partition("/")
    default_port = OLLAMA_PORT if not separator and scheme == "http" else _ports[scheme]
    return f"{scheme}://{_with_port(authority, default_port)}/{path}".rstrip("/")


def _with_port(authority: str, default_port: int) -> str:
    credentials, at, address = authority.rpartition("@")
    if _is_ip(address):
        name, port = address, ""
    else:
        name, _, port = address.rpartition(":") if ":" in address else (address, "", "")
    name = name.strip("[]")
    name = _reachable_as.get(name, name)
    number = int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else default_port
    return f"{credentials}{at}{f'[{name}]' if ':' in name else name}:{number}"


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    return True
