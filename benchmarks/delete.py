"""Deleting a long conversation: what the caller waits, and what others wait that write meanwhile."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from benchmarks import processes
from benchmarks.client import client
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.report import Figure, beside, plain

CALLER_MS = 250.0
WRITER_MS = 250.0
SEEDING_SECONDS = 300.0
REMOVING_SECONDS = 600.0
WRITE_EVERY = 0.005


def run(pace: Pace) -> list[Figure]:
    messages = pace.pick(100_000, 3_000)
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        processes.managed(
            ours, "seed_demo", "--conversations", "1", "--messages", str(messages), within=SEEDING_SECONDS
        )
        key = processes.managed(ours, "create_api_key", "demo1").strip()
        owners = replace(ours, key=key)
        with _writing(ours) as waits_before:
            time.sleep(pace.pick(5, 1))
        with _writing(ours) as waits:
            began = time.perf_counter()
            caller_ms = _deleted(owners)
            _until_removed(owners)
            seconds = time.perf_counter() - began
    return [
        plain(f"Deleting a conversation of {messages:,} messages", "ms", caller_ms, CALLER_MS),
        beside(
            "The longest that another writer waits meanwhile (beside it: else)",
            "ms",
            max(waits),
            max(waits_before),
            WRITER_MS,
            p99=sorted(waits)[len(waits) * 99 // 100],
            writes=len(waits),
            messages_a_second=messages / seconds,
        ),
        plain(f"Until its {messages:,} rows are gone", "s", seconds),
    ]


def _deleted(owners: Server) -> float:
    """Milliseconds."""
    with client(owners) as owner:
        [conversation] = owner.ask("GET", "/api/conversations?is_archived=any")["results"]
        began = time.perf_counter()
        owner.ask("DELETE", f"/api/conversations/{conversation['id']}")
        return 1000 * (time.perf_counter() - began)


@contextmanager
def _writing(server: Server) -> Iterator[list[float]]:
    """Someone else changes a conversation, again and again; gives how many milliseconds each took, once it is over."""
    waits: list[float] = []
    over = threading.Event()
    writer = threading.Thread(target=_keep_writing, args=(server, over, waits))
    writer.start()
    try:
        yield waits
    finally:
        over.set()
        writer.join()


def _keep_writing(server: Server, over: threading.Event, waits: list[float]) -> None:
    with client(server) as writing:
        path = f"/api/conversations/{writing.ask('POST', '/api/conversations', {'title': 'Other'})['id']}"
        number = 0
        while not over.wait(WRITE_EVERY):
            number += 1
            began = time.perf_counter()
            writing.ask("PATCH", path, {"title": f"Other {number}"})
            waits.append(1000 * (time.perf_counter() - began))


def _until_removed(server: Server) -> None:
    assert server.data_dir
    deadline = time.monotonic() + REMOVING_SECONDS
    with closing(sqlite3.connect(f"file:{server.data_dir}/colloquy.sqlite3?mode=ro", uri=True)) as database:
        while database.execute("SELECT 1 FROM conversations_conversation WHERE owner_id IS NULL").fetchone():
            if time.monotonic() > deadline:
                raise RuntimeError("Its rows are not removed.")
            time.sleep(0.05)
