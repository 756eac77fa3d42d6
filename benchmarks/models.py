"""The list of models: from the cache, and with the question to Ollama behind it."""

import statistics

from benchmarks import processes
from benchmarks.client import client
from benchmarks.pace import Pace
from benchmarks.processes import Server
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
    with client(server) as asking:
        return statistics.median(asking.milliseconds(count, "GET", path))
