"""What clients do to a server, and what they see: the load, told to a process of its own (generator.py)."""

import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.processes import ROOT, Server

SPARE_SECONDS = 60.0


@dataclass(frozen=True)
class Door:
    """A request that starts a stream, and the bytes that mark a token and the good end in what comes back."""

    port: int
    request: str
    token: str
    end: str


@dataclass(frozen=True)
class Group:
    """Clients that do the same."""

    name: str
    count: int
    door: Door
    text: str = ""
    """What the tokens must join to, if that is to be checked."""
    stops_reading: bool = False
    rate: float = 0.0
    """How many tokens a second there should be, if it is to be told how late they come."""


@dataclass(frozen=True)
class Load:
    """The groups' clients take turns in starting: `at_once` of them at a time, or all of them within `spread` seconds.

    With a `window`, that many seconds are measured after a `warm_up`, and then all clients hang up. Without, the
    whole is measured, until all streams have ended.
    """

    groups: list[Group]
    spread: float = 0.0
    at_once: int = 0
    warm_up: float = 0.0
    window: float = 0.0
    longest: float = 120.0
    watch: dict[str, int] = field(default_factory=dict)
    """Processes whose CPU (with their children's) and memory are measured, by what we call them."""


@dataclass(frozen=True)
class Seen:
    """By a group's clients; times in milliseconds."""

    first_tokens: list[float]
    tokens: int
    gap_p50: float
    gap_p99: float
    gap_max: float
    late_p50: float
    late_p99: float
    late_max: float
    ended: int
    exact: int
    troubles: list[str]

    @property
    def first_token(self) -> float:
        return statistics.median(self.first_tokens)


@dataclass(frozen=True)
class Measured:
    seconds: float
    cpu: dict[str, float]
    rss_before: dict[str, int]
    rss_after: dict[str, int]
    others_cpu: float
    """Cores that were busy with what is no part of the benchmark."""
    seen: dict[str, Seen]

    @property
    def tokens(self) -> int:
        return sum(seen.tokens for seen in self.seen.values())

    def cpu_per_1000_tokens(self, name: str = "server") -> float:
        return self.cpu[name] * 1000 / max(self.tokens, 1)

    def growth(self, name: str = "server") -> int:
        return self.rss_after[name] - self.rss_before[name]


def put(load: Load) -> Measured:
    command = [sys.executable, "-m", "benchmarks.generator"]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=load.longest + SPARE_SECONDS,
    )
    told = json.loads(answer.stdout)
    seen = {name: Seen(**group) for name, group in told.pop("seen").items()}
    return Measured(**told, seen=seen)


def colloquy_door(server: Server, model: str) -> Door:
    body = {"message": "Tell me something.", "model_name": model}
    request = _request("/api/chat/stream", body, f"Authorization: Bearer {server.key}\r\n")
    return Door(server.port, request, "event: token\n", "event: done\n")


def watching_door(server: Server, generation_id: str) -> Door:
    request = (
        f"GET /api/chat/generations/{generation_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {server.key}\r\n\r\n"
    )
    return Door(server.port, request, "event: token\n", "event: done\n")


def bare_door(server: Server, model: str) -> Door:
    return Door(server.port, _request("/chat", _ollamas(model)), "event: token\n", "event: done\n")


def ollama_door(server: Server, model: str) -> Door:
    """Of the stand-in itself, or of a plain proxy before it."""
    return Door(server.port, _request("/api/chat", _ollamas(model)), '"done":false', '"done":true')


def _ollamas(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Tell me something."}], "stream": True}


def _request(path: str, body: dict[str, Any], headers: str = "") -> str:
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}"
    )
