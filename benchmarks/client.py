"""One client that keeps its connection, and times what it asks for."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from benchmarks.reply import LONGEST, authorization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Server

WARM_UP = 10


class Client:
    def __init__(self, server: Server, connection: HTTPConnection) -> None:
        self._connection = connection
        self._headers = {**authorization(server), "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = self._content(method, path, json.dumps(body) if body else None)
        return json.loads(content) if content else None

    def milliseconds(self, count: int, method: str, path: str, body: dict[str, Any] | None = None) -> list[float]:
        """How long each of so many took, after some that do not count; the shortest first."""
        said = json.dumps(body) if body else None
        times = [self._timed(method, path, said) for _ in range(WARM_UP + count)]
        return sorted(times[WARM_UP:])

    def _timed(self, method: str, path: str, body: str | None) -> float:
        began = time.perf_counter()
        self._content(method, path, body)
        return 1000 * (time.perf_counter() - began)

    def _content(self, method: str, path: str, body: str | None) -> bytes:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} answered {answer.status}.")
        return content


@contextmanager
def client(server: Server) -> Iterator[Client]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LONGEST)
    try:
        yield Client(server, connection)
    finally:
        connection.close()
