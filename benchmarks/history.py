"""Lists, conversations and searches, with little history and with much, on each database that there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import data_sets, processes
from benchmarks.client import Client, client
from benchmarks.data_sets import DataSet, Size
from benchmarks.index_cost import IndexCost
from benchmarks.pace import Pace
from benchmarks.report import Figure, beside, plain

MANY = 1_000  # conversations, so that there is a page 50
LONG = 10_000  # messages
PAGES = 49

WORDS = {
    "a rare word": "quokka",
    "a common word": "database",
    "a phrase": '"sliding window"',
    "two Chinese characters": "灯塔",
}


@dataclass(frozen=True)
class Targets:
    p50: float
    p95: float
    growth: float
    first: float  # what was once aimed at


LIST = Targets(8, 15, 1.3, first=50)
OPEN = Targets(15, 30, 1.3, first=100)
SEARCH = Targets(15, 40, 2, first=200)


@dataclass(frozen=True)
class Request:
    name: str
    targets: Targets
    method: str
    path: str
    body: dict[str, Any] | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds, in order."""

    request: Request
    times: list[float]
    alive: float

    def at(self, share: float) -> float:
        return self.times[min(int(len(self.times) * share), len(self.times) - 1)]


def run(pace: Pace) -> list[Figure]:
    sizes = pace.pick(
        (Size(2, 200, 10_000), Size(50, 20_000, 1_000_000)),
        (Size(2, 40, 400), Size(5, 100, 2_000)),
    )
    return [figure for database in data_sets.databases() for figure in _on(database, sizes, pace)]


def _on(database: str, sizes: tuple[Size, Size], pace: Pace) -> Iterator[Figure]:
    many, long = pace.pick((MANY, LONG), (PAGES * 2 + 10, 300))
    little, much = (data_sets.prepared(database, size, many, long) for size in sizes)
    before = _measured(little, many, pace)
    for times, less in zip(_measured(much, many, pace), before, strict=True):
        yield from _figures(f"{times.request.name}, {database}", times, less)
    yield from _sizes(database, much)


def _figures(name: str, times: Times, less: Times) -> Iterator[Figure]:
    targets = times.request.targets
    yield beside(
        f"{name}: p50 (beside it: /health)", "ms", times.at(0.5), times.alive, targets.p50, first_target=targets.first
    )
    yield plain(f"{name}: p95", "ms", times.at(0.95), targets.p95)
    yield plain(f"{name}: growth with the history", "times", times.at(0.5) / less.at(0.5), targets.growth)


def _measured(data: DataSet, many: int, pace: Pace) -> list[Times]:
    count = pace.pick(200, 5)
    with processes.serving(data.directory, data.database_url) as server:
        reader, searcher = (replace(server, key=data.key(name)) for name in ("demo1", "demo2"))
        with client(reader) as reading, client(searcher) as searching:
            alive = reading.milliseconds(count, "GET", "/health")[count // 2]
            asked = [(reading, request) for request in _readings(reading, pace.pick(20, many // (PAGES + 1)))]
            asked += [(searching, request) for request in _searches()]
            return [Times(it, who.milliseconds(count, it.method, it.path, it.body), alive) for who, it in asked]


def _readings(asking: Client, page_size: int) -> Iterator[Request]:
    longest = asking.ask("GET", "/api/conversations?ordering=-message_count&page_size=1&is_archived=any")["results"][0]
    path = f"/api/conversations/{longest['id']}"
    middle = asking.ask("GET", f"{path}/messages?limit=200")["results"][0]["id"]
    yield Request("List, page 1", LIST, "GET", "/api/conversations")
    yield Request("List, cursor page 50", LIST, "GET", _page_50(asking, page_size))
    yield Request("A conversation with its last 100 messages", OPEN, "GET", path)
    yield Request("100 messages around one of it", OPEN, "GET", f"{path}/messages?around={middle}")


def _page_50(asking: Client, page_size: int) -> str:
    page = f"/api/conversations?is_archived=any&page_size={page_size}&cursor="
    for _ in range(PAGES):
        url = asking.ask("GET", page)["next"]
        page = url[url.index("/api/") :]
    return page


def _searches() -> Iterator[Request]:
    for name, query in WORDS.items():
        yield Request(f"Search for {name}", SEARCH, "POST", "/api/chat/search", {"query": query})


def _sizes(database: str, data: DataSet) -> Iterator[Figure]:
    cost = IndexCost.of(data)
    yield plain(f"Bytes a message, {database}", "B", cost.bytes, index=cost.index_bytes, text=cost.text_bytes)
    yield plain(f"Of these for search, {database}", "B", cost.index_bytes)
    yield beside(
        f"Writing a message with the index, {database} (beside it: without)", "µs", cost.indexed_us, cost.plain_us
    )
