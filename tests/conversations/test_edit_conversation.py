from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations.models import Conversation
from tests.conversations.conftest import add_messages, errors

LAST_WEEK = timezone.now() - timedelta(days=7)


@pytest.fixture
def conversation(conversation: Conversation) -> Conversation:
    conversation.system_prompt = "You are a baker."
    conversation.options = {"temperature": 0.5}
    conversation.is_pinned = True
    conversation.updated_at = LAST_WEEK
    conversation.save()
    return conversation


@pytest.fixture
def url(conversation) -> str:
    return f"/api/conversations/{conversation.pk}"


def test_patch_changes_what_is_given(as_alice, url, conversation):
    response = as_alice.patch(url, {"title": "Rye"})

    assert response.status_code == 200
    conversation.refresh_from_db()
    assert (conversation.title, conversation.title_source) == ("Rye", "user")
    assert (conversation.system_prompt, conversation.is_pinned) == ("You are a baker.", True)
    assert response.json()["title"] == "Rye"


def test_put_sets_back_what_is_left_out(as_alice, url, conversation):
    response = as_alice.put(url, {"title": "Rye"})

    assert response.status_code == 200
    conversation.refresh_from_db()
    assert (conversation.title, conversation.model_name, conversation.system_prompt) == ("Rye", "", "")
    assert (conversation.options, conversation.is_pinned, conversation.is_archived) == ({}, False, False)


def test_put_leaves_the_messages_as_they_are(as_alice, url, conversation):
    leaf = add_messages(conversation, 2)[-1]

    shape = as_alice.put(url, {}).json()

    assert (shape["message_count"], shape["active_leaf_id"]) == (2, str(leaf.pk))


@pytest.mark.parametrize(
    "change", [{"title": "Rye"}, {"system_prompt": "Be brief."}, {"options": {}}, {"model_name": "qwen3:4b"}]
)
def test_editing_is_activity(as_alice, url, conversation, change):
    as_alice.patch(url, change)

    conversation.refresh_from_db()
    assert conversation.updated_at > LAST_WEEK


@pytest.mark.parametrize("change", [{"is_pinned": False}, {"is_archived": True}, {}, {"title": "Sourdough"}])
def test_tidying_up_is_not_activity(as_alice, url, conversation, change):
    as_alice.patch(url, change)

    conversation.refresh_from_db()
    assert conversation.updated_at == LAST_WEEK


def test_confirming_an_automatic_title_makes_it_the_users(as_alice, url, conversation):
    as_alice.patch(url, {"title": "Sourdough"})

    conversation.refresh_from_db()
    assert conversation.title_source == "user"


def test_an_emptied_title_is_the_programs_to_choose(as_alice, url, conversation):
    as_alice.patch(url, {"title": "Rye"})
    as_alice.patch(url, {"title": "  "})

    conversation.refresh_from_db()
    assert (conversation.title, conversation.title_source) == ("", "auto")


def test_titles_are_trimmed_and_lose_control_and_direction_marks(as_alice, url):
    shape = as_alice.patch(url, {"title": "  Rye\u202e\x07 and\n\tspelt \u2066 "}).json()

    assert shape["title"] == "Rye and spelt"


def test_only_changed_columns_are_written(as_alice, url, conversation):
    with CaptureQueriesContext(connection) as captured:
        as_alice.patch(url, {"is_pinned": True, "is_archived": True})

    (update,) = [query["sql"] for query in captured if query["sql"].startswith('UPDATE "conversations_')]
    assert update.startswith('UPDATE "conversations_conversation" SET "is_archived" = ')
    assert update.count(" = ") == 2  # the column, and the id


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_someone_elses_conversation_does_not_exist(as_bob, url, conversation, method):
    response = getattr(as_bob, method)(url, {"title": "Mine"})

    assert response.status_code == 404
    assert errors(response) == [("not_found", None)]
    conversation.refresh_from_db()
    assert conversation.title == "Sourdough"


@pytest.mark.parametrize("pk", ["7", "nonsense", "01939d9a-0000-7000-8000-000000000000", "a.b", "%00", "🍞"])
def test_what_is_no_id_does_not_exist(as_alice, pk):
    response = as_alice.get(f"/api/conversations/{pk}")

    assert response.status_code == 404
    assert errors(response) == [("not_found", None)]


def test_deleting_takes_the_messages_along(as_alice, url, conversation):
    add_messages(conversation, 1500)  # deeper than Python recurses

    response = as_alice.delete(url)

    assert (response.status_code, response.content) == (204, b"")
    assert not Conversation.objects.exists()
    assert as_alice.delete(url).status_code == 404
