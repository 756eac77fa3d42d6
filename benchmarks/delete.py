"""Deleting a long conversation: what the caller waits, and what others wait that write meanwhile."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from benchmarks import processes
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.reply import LONGEST, authorization
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
        owners = processes.Server(ours.pid, ours.port, key, ours.data_dir)
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


def _deleted(server: Server) -> float:
    """Milliseconds."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LONGEST)
    [conversation] = json.loads(_asked(connection, server, "GET", "/api/conversations?is_archived=any").read())[
        "results"
    ]
    began = time.perf_counter()
    _asked(connection, server, "DELETE", f"/api/conversations/{conversation['id']}").read()
    taken = 1000 * (time.perf_counter() - began)
    connection.close()
    return taken


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
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LONGEST)
    path = "/api/conversations"
    path += "/" + json.loads(_asked(connection, server, "POST", path, {"title": "Other"}).read())["id"]
    number = 0
    while not over.wait(WRITE_EVERY):
        number += 1
        began = time.perf_counter()
        _asked(connection, server, "PATCH", path, {"title": f"Other {number}"}).read()
        waits.append(1000 * (time.perf_counter() - began))
    connection.close()


def _asked(
    connection: HTTPConnection, server: Server, method: str, path: str, body: dict[str, Any] | None = None
) -> HTTPResponse:
    headers = {**authorization(server), "Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path} answered {answer.status}.")
    return answer


def _until_removed(server: Server) -> None:
    assert server.data_dir
    deadline = time.monotonic() + REMOVING_SECONDS
    with closing(sqlite3.connect(f"file:{server.data_dir}/colloquy.sqlite3?mode=ro", uri=True)) as database:
        while database.execute("SELECT 1 FROM conversations_conversation WHERE owner_id IS NULL").fetchone():
            if time.monotonic() > deadline:
                raise RuntimeError("Its rows are not removed.")
            time.sleep(0.05)
