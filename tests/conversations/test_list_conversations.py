from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from conversations.models import Conversation
from tests.conversations.conftest import errors

URL = "/api/conversations"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def make(alice):
    """Alice's conversations, each a day younger than the one before."""

    def make(title: str, **fields) -> Conversation:
        day = NEW_YEAR + timedelta(days=Conversation.objects.count())
        return Conversation.objects.create(
            **{"owner": alice, "title": title, "created_at": day, "updated_at": day, **fields}
        )

    return make


@pytest.fixture
def titles(as_alice):
    def titles(query: str = "") -> list[str]:
        response = as_alice.get(f"{URL}?{query}")
        assert response.status_code == 200, response.content
        return [conversation["title"] for conversation in response.json()["results"]]

    return titles


def walk(client, query: str, way: str = "next") -> list[list[str]]:
    """The titles on each page of a walk."""
    pages = []
    url = f"{URL}?{query}"
    while url:
        shape = client.get(url).json()
        pages.append([conversation["title"] for conversation in shape["results"]])
        url = shape[way]
    return pages


def test_the_newest_activity_comes_first(make, titles):
    make("oldest")
    make("active again", updated_at=NEW_YEAR + timedelta(days=30))
    make("newest")

    assert titles() == ["active again", "newest", "oldest"]


def test_lists_leave_out_what_can_be_long(as_alice, make):
    make("Sourdough", system_prompt="You are a baker.")

    (shape,) = as_alice.get(URL).json()["results"]

    assert list(shape) == [
        "id",
        "title",
        "title_source",
        "model_name",
        "prompt_template",
        "prompt_version",
        "is_pinned",
        "is_archived",
        "message_count",
        "active_leaf_id",
        "source",
        "created_at",
        "updated_at",
    ]


def test_bob_sees_nothing_of_alice(as_bob, make):
    make("Sourdough")

    assert as_bob.get(URL).json()["results"] == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["new"]),
        ("is_archived=false", ["new"]),
        ("is_archived=true", ["old"]),
        ("is_archived=True", ["old"]),
        ("is_archived=any", ["new", "old"]),
        ("is_archived=", ["new"]),
    ],
)
def test_archived_ones_are_out_of_sight_until_asked_for(make, titles, query, expected):
    make("old", is_archived=True)
    make("new")

    assert titles(query) == expected


def test_an_archived_one_can_still_be_opened(as_alice, make):
    archived = make("old", is_archived=True)

    assert as_alice.get(f"{URL}/{archived.pk}").status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("is_pinned=true", ["pinned"]),
        ("is_pinned=false", ["imported", "plain"]),
        ("model_name=qwen3:4b", ["pinned"]),
        ("model_name=qwen3", []),
        ("source=import:chatgpt", ["imported"]),
        ("search=PLA", ["plain"]),
        ("search=%25", []),
        ("created_after=2026-01-02T00:00:00Z", ["imported", "pinned"]),
        ("created_before=2026-01-02T00:00:00Z", ["plain"]),
        ("updated_after=2026-01-03", ["imported"]),
        ("updated_before=2026-01-03T01:00:00%2B01:00", ["pinned", "plain"]),
        ("created_after=2026-01-02&created_before=2026-01-03", ["pinned"]),
    ],
)
def test_a_list_can_be_narrowed(make, titles, query, expected):
    make("plain")
    make("pinned", is_pinned=True, model_name="qwen3:4b")
    make("imported", source="import:chatgpt")

    assert titles(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ordering=title", "abc"),
        ("ordering=-title", "cba"),
        ("ordering=created_at", "bca"),
        ("ordering=-updated_at", "acb"),
        ("ordering=message_count", "bac"),
        ("ordering=-message_count", "cab"),
        ("ordering=message_count,title", "abc"),
        ("ordering=", "acb"),
    ],
)
def test_a_list_can_be_ordered(make, titles, query, expected):
    make("b")
    make("c", message_count=4)
    make("a")

    assert titles(query) == list(expected)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("is_pinned=perhaps", ("invalid_choice", "is_pinned")),
        ("is_pinned=any", ("invalid_choice", "is_pinned")),
        ("is_archived=1", ("invalid_choice", "is_archived")),
        ("created_after=yesterday", ("invalid", "created_after")),
        ("created_before=2026-13-01", ("invalid", "created_before")),
        ("updated_after=0001-01-01T00:00:00%2B23:00", ("invalid", "updated_after")),
        ("updated_before=9999-12-31T23:59:59-23:00", ("invalid", "updated_before")),
        ("ordering=owner", ("invalid_choice", "ordering")),
        ("ordering=--title", ("invalid_choice", "ordering")),
        ("ordering=title,owner__password", ("invalid_choice", "ordering")),
        ("search=%00", ("null_characters_not_allowed", "search")),
        ("search=" + "x" * 201, ("max_length", "search")),
        ("model_name=%00", ("null_characters_not_allowed", "model_name")),
    ],
)
def test_what_cannot_be_understood_is_refused(as_alice, query, error):
    response = as_alice.get(f"{URL}?{query}")

    assert response.status_code == 400
    assert errors(response) == [error]


def test_numbered_pages(as_alice, make):
    for title in "abcde":
        make(title)

    shape = as_alice.get(f"{URL}?ordering=title&page_size=2&page=2").json()

    assert [conversation["title"] for conversation in shape.pop("results")] == ["c", "d"]
    assert shape == {
        "count": 5,
        "page": 2,
        "page_size": 2,
        "total_pages": 3,
        "next": "http://testserver/api/conversations?ordering=title&page=3&page_size=2",
        "previous": "http://testserver/api/conversations?ordering=title&page_size=2",
    }


@pytest.mark.parametrize(("asked", "given"), [("", 20), ("page_size=7", 7), ("page_size=1000", 100)])
def test_a_page_holds_20_and_at_most_100(as_alice, alice, asked, given):
    Conversation.objects.bulk_create(Conversation(owner=alice) for _ in range(101))

    assert len(as_alice.get(f"{URL}?{asked}").json()["results"]) == given
    assert len(as_alice.get(f"{URL}?cursor=&{asked}").json()["results"]) == given


@pytest.mark.parametrize("page", ["2", "0", "-1", "x", "9" * 5000])
def test_a_page_beyond_the_end_does_not_exist(as_alice, make, page):
    make("only one")

    response = as_alice.get(f"{URL}?page={page}")

    assert response.status_code == 404
    assert errors(response) == [("not_found", None)]


def test_a_cursor_walks_there_and_back(as_alice, make):
    for title in "abcde":
        make(title)

    assert walk(as_alice, "cursor=&page_size=2&ordering=title") == [["a", "b"], ["c", "d"], ["e"]]

    first = as_alice.get(f"{URL}?cursor=&page_size=2&ordering=title").json()
    assert list(first) == ["next", "previous", "results"]
    assert first["previous"] is None
    last = as_alice.get(as_alice.get(first["next"]).json()["next"]).json()
    assert walk(as_alice, urlsplit(last["previous"]).query, way="previous") == [["c", "d"], ["a", "b"]]


@pytest.mark.parametrize("ordering", ["message_count", "-message_count", "-message_count,title", "updated_at", ""])
def test_a_walk_through_ties_meets_each_one_once(as_alice, alice, ordering):
    Conversation.objects.bulk_create(
        Conversation(owner=alice, title=str(number), message_count=number // 40, updated_at=NEW_YEAR)
        for number in range(100)
    )

    met = [title for page in walk(as_alice, f"cursor=&page_size=7&ordering={ordering}") for title in page]
    paged = [title for page in walk(as_alice, f"page_size=7&ordering={ordering}") for title in page]

    assert sorted(met, key=int) == [str(number) for number in range(100)]
    assert met == paged


def test_a_walk_is_not_thrown_off_by_what_is_made_and_deleted(as_alice, make):
    for title in "abcd":
        make(title)
    first = as_alice.get(f"{URL}?cursor=&page_size=2").json()

    make("e")
    Conversation.objects.filter(title="c").delete()  # the last one on the page we have

    assert walk(as_alice, urlsplit(first["next"]).query) == [["b", "a"]]


def test_a_walk_that_lost_its_rest_ends(as_alice, make):
    make("a")
    make("b")
    first = as_alice.get(f"{URL}?cursor=&page_size=1").json()
    Conversation.objects.filter(title="a").delete()

    assert as_alice.get(first["next"]).json() == {"next": None, "previous": None, "results": []}


@pytest.mark.parametrize("cursor", ["x", "cD0x", "a:b:c", "%00", "%ff"])
def test_a_made_up_cursor_does_not_exist(as_alice, cursor):
    response = as_alice.get(f"{URL}?cursor={cursor}")

    assert response.status_code == 404
    assert errors(response) == [("not_found", None)]


def test_a_cursor_of_another_order_does_not_exist(as_alice, make):
    make("a")
    make("b")
    by_title = as_alice.get(f"{URL}?cursor=&page_size=1&ordering=title").json()["next"]

    assert as_alice.get(by_title.replace("ordering=title", "ordering=-title")).status_code == 404


@pytest.mark.parametrize(("query", "queries"), [("", 3), ("cursor=", 2)])
def test_a_list_costs_the_same_however_long(as_alice, alice, django_assert_num_queries, query, queries):
    Conversation.objects.create(owner=alice)
    as_alice.get(URL)
    with django_assert_num_queries(queries):  # the key, the rows, and for numbered pages their count
        as_alice.get(f"{URL}?{query}")
    Conversation.objects.bulk_create(Conversation(owner=alice) for _ in range(50))
    with django_assert_num_queries(queries):
        as_alice.get(f"{URL}?{query}")
