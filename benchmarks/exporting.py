"""Exports: one conversation in each format, and everything there is, taken as fast as it comes."""

import statistics
import time
from dataclasses import replace
from http.client import HTTPConnection

import psutil

from benchmarks import processes
from benchmarks.client import Client, client
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.reply import LONGEST, authorization
from benchmarks.report import Figure, plain, say

SEEDING_SECONDS = 1_800.0
MESSAGES = 100
ONE_MS = 50.0
EACH_US = 20.0  # 50,000 messages a second
GROWTH_MB = 100.0  # of which SQLite's cache is up to 64
PIECE = 1024 * 1024


def run(pace: Pace) -> list[Figure]:
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        count = pace.pick(200_000, 2_000)
        server = _filled(ours, count)
        with client(server) as asking:
            conversation, messages = _about(asking, MESSAGES)
            one = [_one(asking, conversation, name, messages, pace) for name in ("json", "markdown", "html")]
        return [*one, *_all(server, "jsonl", count, EACH_US), *_all(server, "zip", count)]


def _filled(server: Server, messages: int) -> Server:
    """With so many messages, and the key of whom they belong to."""
    say(f"making {messages:,} messages")
    amounts = [f"--conversations={messages // 20}", f"--messages={messages}"]
    processes.managed(server, "seed_demo", *amounts, within=SEEDING_SECONDS)
    return replace(server, key=processes.managed(server, "create_api_key", "demo1").strip())


def _about(asking: Client, messages: int) -> tuple[str, int]:
    """The conversation that has most nearly so many."""
    found = asking.ask("GET", "/api/conversations?ordering=-message_count&page_size=100")["results"]
    nearest = min(found, key=lambda each: abs(each["message_count"] - messages))
    return nearest["id"], nearest["message_count"]


def _one(asking: Client, conversation: str, name: str, messages: int, pace: Pace) -> Figure:
    times = asking.milliseconds(pace.pick(50, 5), "GET", f"/api/export/conversations/{conversation}/{name}")
    at_most = None if name == "html" else ONE_MS  # a page takes as long as its code takes to colour
    return plain(f"Export of {messages} messages as {name}, median", "ms", statistics.median(times), at_most)


def _all(server: Server, extension: str, messages: int, at_most: float | None = None) -> list[Figure]:
    process = psutil.Process(server.pid)
    before = highest = process.memory_info().rss
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LONGEST)
    began, cpu = time.perf_counter(), process.cpu_times()
    connection.request("GET", f"/api/export/conversations?format={extension}", headers=authorization(server))
    answer, size = connection.getresponse(), 0
    while piece := answer.read(PIECE):
        size += len(piece)
        highest = max(highest, process.memory_info().rss)
    seconds, used = time.perf_counter() - began, process.cpu_times()
    connection.close()
    spent = used.user + used.system - cpu.user - cpu.system
    details = {"bytes": size, "seconds": seconds, "cpu_us_each": 1e6 * spent / messages, "messages": messages}
    return [
        plain(
            f"Export of {messages:,} messages as {extension}, each", "µs", 1e6 * seconds / messages, at_most, **details
        ),
        plain("  growth of the server's memory meanwhile", "MB", (highest - before) / 1e6, GROWTH_MB),
    ]
