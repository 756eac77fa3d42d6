"""One line in the log for each request, whichever door it came to."""

import logging
from time import perf_counter
from typing import Any

logger = logging.getLogger(__name__)


class AccessLog:
    """Tells method, path, status and time. Never the query, which may hold a ticket."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        began, status = perf_counter(), "-"

        def noting(message: dict[str, Any]) -> Any:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            elif message["type"] == "websocket.accept":
                status = "101"
            return send(message)  # awaited by who called: a stream comes through here with each token

        try:
            await self.application(scope, receive, noting)
        finally:
            _log(scope, status, milliseconds=round((perf_counter() - began) * 1000))


def _log(scope: dict[str, Any], status: str, milliseconds: int) -> None:
    method = scope.get("method", "WEBSOCKET")
    path = scope["raw_path"].decode("ascii", "replace")  # as sent: a decoded one could hold line breaks
    told = {"method": method, "path": path, "status": status, "milliseconds": milliseconds}
    logger.info("%s %s %s %s ms", method, path, status, milliseconds, extra=told)
