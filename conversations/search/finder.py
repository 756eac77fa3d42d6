"""Finding: which entries a query matches, a window at a time.

Ranking everything that a common word matches would cost more the more an owner has written. So the newest matches are
taken, at most WINDOW of them, and those are ranked; when they have all been shown, the next older ones. What matches no
more than that, as most queries do, is ranked as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from conversations.models import Conversation
from conversations.search import facets
from conversations.search.models import SearchEntry
from conversations.search.query import Query, Term, parse

WINDOW = 500

MESSAGES, TITLES = "messages", "titles"

# What stands before each word of an owner in the index.
_PREFIX = {MESSAGES: "{}x", TITLES: "{}t"}

# A title says in few words what much text is about.
_TITLE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, by whom and where."""

    owner_id: int
    text: str
    kinds: frozenset[str] = frozenset({MESSAGES})
    conversation_id: UUID | None = None
    role: str | None = None
    model_name: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    include_archived: bool = False

    @property
    def query(self) -> Query:
        return parse(self.text)

    @property
    def facets(self) -> list[str]:
        """What it is narrowed by inside the index."""
        told = [facets.conversation(self.conversation_id)] if self.conversation_id else []
        told += [facets.role(self.owner_id, self.role)] if self.role else []
        return told + ([facets.model(self.owner_id, self.model_name)] if self.model_name else [])


@dataclass(frozen=True, slots=True)
class Hit:
    key: int
    rank: float


@dataclass(frozen=True, slots=True)
class Window:
    """Matches next to each other in time, the best first. `goes_on`: there are others on the side it was read to."""

    hits: list[Hit] = field(default_factory=list)
    goes_on: bool = False

    @property
    def newest(self) -> int:
        return max(hit.key for hit in self.hits)

    @property
    def oldest(self) -> int:
        return min(hit.key for hit in self.hits)


def newest(search: Search, size: int) -> Window:
    return _window(search, size, "DESC")


def older(search: Search, size: int, than: int) -> Window:
    return _window(search, size, "DESC", ("{key} < %s", than))


def newer(search: Search, size: int, than: int, up_to: int) -> Window:
    return _window(search, size, "ASC", ("{key} > %s", than), ("{key} <= %s", up_to))


def titled(conversations: QuerySet[Conversation], owner_id: int, text: str) -> QuerySet[Conversation]:
    """Those of the owner's whose title has words that begin with all the words of `text`."""
    query = parse(text, as_typed=True)
    if not query.wanted:
        return conversations.none()
    if _is_sqlite():
        return conversations.filter(pk__in=RawSQL(_SQLITE_TITLED, [_fts5(query, owner_id, [TITLES])]))  # noqa: S611
    given = [_PREFIX[TITLES].format(owner_id), _tsquery(query)]
    return conversations.filter(pk__in=RawSQL(_POSTGRESQL_TITLED, given))  # noqa: S611


def _window(search: Search, size: int, way: str, *bounds: tuple[str, int]) -> Window:
    query = search.query
    if not query.wanted:
        return Window()
    rows = (_on_sqlite if _is_sqlite() else _on_postgresql)(search, query, size + 1, way, bounds)
    best_first = sorted(rows[:size], key=lambda row: (-row[1], -row[0]))
    return Window([Hit(key, rounded(rank)) for key, rank in best_first], goes_on=len(rows) > size)


def rounded(rank: float) -> float:
    """bm25 of a word that most texts have is about a millionth."""
    return float(f"{rank:.5g}")


# --- SQLite ----------------------------------------------------------------------------------------

# CROSS JOIN: first the index, which gives its rows in the order of their keys, and stops at the limit.
_SQLITE = """
    SELECT s.rowid, -bm25(conversations_search, {title_weight}, 1.0, 0.0)
    FROM conversations_search s
    CROSS JOIN conversations_searchentry e ON e.id = s.rowid
    CROSS JOIN conversations_conversation c ON c.id = e.conversation_id
    WHERE conversations_search MATCH %s {conditions}
    ORDER BY s.rowid {way} LIMIT %s
"""

_SQLITE_TITLED = """
    SELECT e.conversation_id FROM conversations_search s CROSS JOIN conversations_searchentry e ON e.id = s.rowid
    WHERE conversations_search MATCH %s
"""


def _on_sqlite(
    search: Search, query: Query, limit: int, way: str, bounds: Iterable[tuple[str, int]]
) -> list[tuple[int, float]]:
    conditions, values = _conditions(search, bounds, key="s.rowid")
    match = " AND ".join(
        [*(f'"{facet}"' for facet in search.facets), f"({_fts5(query, search.owner_id, search.kinds)})"]
    )
    sql = _SQLITE.format(title_weight=_TITLE_WEIGHT, conditions=conditions, way=way)
    with connection.cursor() as cursor:
        cursor.execute(sql, [match, *values, limit])
        return list(cursor.fetchall())


def _fts5(query: Query, owner_id: int, kinds: Iterable[str]) -> str:
    prefixes = [_PREFIX[kind].format(owner_id) for kind in sorted(kinds)]

    def said(term: Term) -> str:
        phrases = (" ".join(prefix + word for word in term.words) for prefix in prefixes)
        return "(" + " OR ".join(f'"{phrase}"' + "*" * term.is_prefix for phrase in phrases) + ")"

    wanted = " AND ".join(map(said, query.wanted))
    unwanted = " OR ".join(map(said, query.unwanted))
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


# --- PostgreSQL ------------------------------------------------------------------------------------

# The addition keeps the planner from walking down the keys until it has met enough.
_POSTGRESQL = """
    WITH q AS MATERIALIZED (SELECT {query} AS query),
    found AS MATERIALIZED (
        SELECT e.id, e.words FROM conversations_searchentry e
        JOIN conversations_conversation c ON c.id = e.conversation_id
        WHERE e.words @@ (SELECT query FROM q) {conditions}
        ORDER BY e.id + 0 {way} LIMIT %s
    )
    SELECT id, ts_rank_cd(words, (SELECT query FROM q), 1) FROM found ORDER BY id {way}
"""

_REACH = """
    SELECT e.id FROM conversations_searchentry e WHERE e.owner_id = %s {conditions} ORDER BY e.id {way}
    LIMIT 1 OFFSET %s
"""

# GIN gives all that matches, in no order. So it is asked for the newest entries of the owner first (which another index
# tells), then for as many as the rest should be among, and then for all others.
_FIRST_REACH, _LONGEST_REACH = 1_000, 10_000
_FEW = 20  # of these one cannot tell how many others there are

_POSTGRESQL_TITLED = """
    SELECT e.conversation_id FROM conversations_searchentry e WHERE e.words @@ search_query(%s, %s)
"""


def _on_postgresql(
    search: Search, query: Query, limit: int, way: str, bounds: Iterable[tuple[str, int]]
) -> list[tuple[int, float]]:
    bounds, rows, reach = list(bounds), list[tuple[int, float]](), _FIRST_REACH
    up_to, beyond = ("{key} >= %s", "{key} < %s") if way == "DESC" else ("{key} <= %s", "{key} > %s")
    with connection.cursor() as cursor:
        while True:
            end = _reach(cursor, search.owner_id, reach, way, bounds) if reach else None
            # The owner beside the words is of use for a short stretch; all that an owner has, GIN knows better.
            within = bounds if end is None else [*bounds, (up_to, end), ("e.owner_id = %s", search.owner_id)]
            cursor.execute(*_statement(search, query, limit - len(rows), way, within))
            rows += cursor.fetchall()
            if end is None or len(rows) == limit:
                return rows
            bounds = [*bounds, (beyond, end)]
            reach = _next_reach(reach, len(rows), limit)


def _next_reach(last: int, found: int, wanted: int) -> int:
    """0 is without end."""
    if last > _FIRST_REACH or found <= _FEW:
        return 0
    expected = 3 * (wanted - found) * last // (2 * found)
    return expected if expected < _LONGEST_REACH else 0


def _reach(cursor: CursorWrapper, owner_id: int, count: int, way: str, bounds: list[tuple[str, int]]) -> int | None:
    """The key of the owner's entry so far away. None if there are not so many."""
    conditions = "".join(f" AND {bound.format(key='e.id')}" for bound, _ in bounds)
    given = [owner_id, *(value for _, value in bounds), count - 1]
    cursor.execute(_REACH.format(conditions=conditions, way=way), given)
    row: tuple[int] | None = cursor.fetchone()
    return row[0] if row else None


def _statement(
    search: Search, query: Query, limit: int, way: str, bounds: list[tuple[str, int]]
) -> tuple[str, list[Any]]:
    conditions, values = _conditions(search, bounds, key="e.id")
    said = _tsquery(query)
    queries, given = [], []
    for kind in sorted(search.kinds):
        queries.append("search_query(%s, %s)")
        given += [_PREFIX[kind].format(search.owner_id), said]
    match = "(" + " || ".join(queries) + ")" + " && %s::tsquery" * len(search.facets)
    given += search.facets
    sql = _POSTGRESQL.format(query=match, conditions=conditions, way=way)
    return sql, [*given, *values, limit]


def _tsquery(query: Query) -> str:
    def said(term: Term) -> str:
        words = [f"'{word}'" for word in term.words]
        return "(" + " <-> ".join(words) + ":*" * term.is_prefix + ")"

    return " & ".join([*map(said, query.wanted), *("!" + said(term) for term in query.unwanted)])


# --- Both ------------------------------------------------------------------------------------------


def _conditions(search: Search, bounds: Iterable[tuple[str, int]], key: str) -> tuple[str, list[Any]]:
    """Words have their owner before them; that the conversation is the owner's is asked all the same."""
    told = list(_told(search)) + [(bound.format(key=key), value) for bound, value in bounds]
    return "".join(f" AND {condition}" for condition, _ in told), [value for _, value in told]


def _told(search: Search) -> Iterator[tuple[str, Any]]:
    yield "c.owner_id = %s", search.owner_id
    if not search.include_archived:
        yield "c.is_archived = %s", False
    moment = SearchEntry._meta.get_field("created_at")
    if search.created_after:
        yield "e.created_at >= %s", moment.get_db_prep_value(search.created_after, connection)
    if search.created_before:
        yield "e.created_at < %s", moment.get_db_prep_value(search.created_before, connection)


def _is_sqlite() -> bool:
    return connection.vendor == "sqlite"
