"""Much history, made once with `seed_demo` and kept for the next time under `benchmarks/data/`.

On PostgreSQL it is a database of its own, made on the server that BENCH_POSTGRES_URL names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks.processes import ROOT, environment, manage, run_once
from benchmarks.report import say

KEPT = ROOT / "benchmarks" / "data"

MAKING_SECONDS = 3600.0


@dataclass(frozen=True)
class Size:
    users: int
    conversations: int
    messages: int


@dataclass(frozen=True)
class DataSet:
    """demo1 has, besides, many short conversations to walk through and a long one; demo2 has a user's share."""

    directory: Path
    database_url: str
    size: Size

    def environment(self) -> dict[str, str]:
        return environment(self.directory, database_url=self.database_url)

    def managed(self, *arguments: str, within: float = MAKING_SECONDS) -> str:
        return run_once(manage(*arguments), self.environment(), within)

    def key(self, username: str) -> str:
        return self.managed("create_api_key", username).strip()


def databases() -> dict[str, str]:
    """What there is to measure on, and where its databases are made. SQLite's is in its directory."""
    postgresql = os.environ.get("BENCH_POSTGRES_URL")
    return {"SQLite": "", **({"PostgreSQL": postgresql} if postgresql else {})}


def prepared(database: str, size: Size, many: int, long: int) -> DataSet:
    """`many` more conversations of two messages each, and one of so long a path."""
    name = f"{database.lower()}-{size.users}-{size.conversations}-{size.messages}-{many}-{long}"
    server_url = databases()[database]
    url = _database_url(server_url, f"colloquy_bench_{name.replace('-', '_')}") if server_url else ""
    data = DataSet(KEPT / name, url, size)
    complete = data.directory / "complete"
    if not complete.exists() or complete.read_text() != url or (url and not _exists(url)):
        say(f"making {size.messages:,} messages on {database} …")
        data.directory.mkdir(parents=True, exist_ok=True)
        _make(data, server_url, many, long)
        complete.write_text(url)
    data.managed("migrate", "--verbosity", "0")
    return data


def _make(data: DataSet, server_url: str, many: int, long: int) -> None:
    if server_url:
        _create_database(server_url, urlsplit(data.database_url).path[1:])
    for kept in data.directory.glob("colloquy.sqlite3*"):
        kept.unlink()
    data.managed("migrate", "--verbosity", "0")
    _seed(data, data.size, seed=1)
    _seed(data, Size(1, many, 2 * many), seed=2)
    _seed(data, Size(1, 1, long), seed=3)
    if data.database_url:
        with psycopg.connect(data.database_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")  # as it does by itself in a while


def _seed(data: DataSet, size: Size, seed: int) -> None:
    numbers = {"users": size.users, "conversations": size.conversations, "messages": size.messages, "seed": seed}
    data.managed("seed_demo", *(word for name, number in numbers.items() for word in (f"--{name}", str(number))))


def _create_database(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _database_url(server_url: str, name: str) -> str:
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def _exists(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
