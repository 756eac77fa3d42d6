"""Settings that disagree. Importing this registers it."""

from typing import Any

from django.conf import settings
from django.core import checks


@checks.register(checks.Tags.security, deploy=True)
def knows_its_clients(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    if settings.SECURE_PROXY_SSL_HEADER is None or settings.TRUSTED_PROXIES:
        return []
    return [
        checks.Warning(
            "HTTPS says that a proxy stands in front, and TRUSTED_PROXIES that none does: all clients have one "
            "address, and whoever fails to log in too often locks out the others.",
            hint="Set TRUSTED_PROXIES to how many proxies a request passes, as docs/operations.md tells.",
            id="accounts.W001",
        )
    ]
