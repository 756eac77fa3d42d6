"""The list of models: from the cache, and with the question to Ollama behind it."""

import statistics
import time
from http.client import HTTPConnection

from benchmarks import processes
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.reply import LONGEST, authorization
from benchmarks.report import Figure, beside, difference

CACHED_MS = 5.0
OVER_OLLAMA_MS = 10.0


def run(pace: Pace) -> list[Figure]:
    count = pace.pick(300, 20)
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        cached = _median_ms(ours, "/api/models/list", count)
        alive = _median_ms(ours, "/health", count)
        fresh = _median_ms(ours, "/api/models/list?refresh=true", count)
        asked = _median_ms(ollama, "/api/tags", count)
    return [
        beside("Models, cached (beside it: /health)", "ms", cached, alive, CACHED_MS),
        difference("Models, asked anew, over Ollama itself", "ms", fresh, asked, OVER_OLLAMA_MS),
    ]


def _median_ms(server: Server, path: str, count: int) -> float:
    """Of one client that keeps its connection, after some requests that do not count."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LONGEST)
    times = [_ms(connection, server, path) for _ in range(count + 10)][10:]
    connection.close()
    return statistics.median(times)


def _ms(connection: HTTPConnection, server: Server, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers=authorization(server))
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}.")
    return 1000 * (time.perf_counter() - began)
