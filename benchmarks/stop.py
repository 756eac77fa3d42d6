"""From the request to stop until Ollama sees its connection closed."""

import json
import statistics
import time
from http.client import HTTPConnection
from typing import Any

from benchmarks import processes
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.reply import LONGEST, authorization, started
from benchmarks.report import Figure, plain

MODEL = "script:tokens-3000-rate-30"


def run(pace: Pace) -> list[Figure]:
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        stop_one(ours, ours, ollama)
        delays = sorted(stop_one(ours, ours, ollama) for _ in range(pace.pick(60, 5)))
    return [
        plain("Stop until Ollama's connection closes (median)", "ms", statistics.median(delays)),
        plain("Stop until Ollama's connection closes (p99)", "ms", delays[len(delays) * 99 // 100]),
    ]


def stop_one(writes: Server, is_told: Server, ollama: Server) -> float:
    """Milliseconds, by the clock that all processes of a host share."""
    closed_before = stats(ollama)["client_closed_early"]
    watching, generation_id = started(writes, MODEL)
    asked_at = time.monotonic()
    asked = HTTPConnection("127.0.0.1", is_told.port, timeout=LONGEST)
    asked.request("POST", f"/api/chat/generations/{generation_id}/stop", headers=authorization(is_told))
    if asked.getresponse().status != 202:
        raise RuntimeError("It would not stop.")
    closed_at = _closed_at(ollama, closed_before)
    watching.close()
    asked.close()
    return 1000 * (closed_at - asked_at)


def _closed_at(ollama: Server, closed_before: int) -> float:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        seen = stats(ollama)
        if seen["client_closed_early"] > closed_before:
            return float(seen["last_early_close"]["monotonic"])
        time.sleep(0.005)
    raise RuntimeError("Ollama's connection did not close.")


def stats(ollama: Server) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", ollama.port, timeout=LONGEST)
    connection.request("GET", "/_standin/stats")
    told: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return told
