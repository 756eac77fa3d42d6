import io
import zipfile

import orjson
import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from accounts.models import User
from tests.exports.conversations import body, documents, say, talk

URL = reverse("admin:conversations_conversation_changelist")


@pytest.fixture
def operator(client, db):
    """The person on call."""
    client.force_login(User.objects.create_superuser("operator", password="pw"))
    return client


def choose(client, action: str, *conversations, **more: str):
    return client.post(URL, {"action": action, "_selected_action": [each.pk for each in conversations], **more})


def test_one_conversation_becomes_a_document(operator, alice):
    response = choose(operator, "export_as_json", talk(alice, "Hello"))

    assert response["Content-Disposition"] == 'attachment; filename="Sourdough.json"'
    assert orjson.loads(body(response))["conversation"]["title"] == "Sourdough"


def test_several_become_a_document_a_line(operator, alice, bob):
    chosen = [talk(alice, "Hello", title="Bread"), talk(bob, "Hello", title="Fish")]
    talk(bob, "Hello", title="not chosen")

    response = choose(operator, "export_as_json", *chosen)

    assert response["Content-Disposition"].endswith('.jsonl"')
    assert [each["conversation"]["title"] for each in documents(body(response))] == ["Bread", "Fish"]


def test_all_that_were_found_can_be_chosen_at_once(operator, alice, bob):
    chosen = [talk(alice, "Hello", title="Bread"), talk(alice, "Hello", title="Rye")]
    talk(bob, "Hello")

    page = operator.post(
        f"{URL}?q=alice&o=1", {"action": "export_as_json", "_selected_action": [chosen[0].pk], "select_across": "1"}
    )

    assert [each["conversation"]["title"] for each in documents(body(page))] == ["Bread", "Rye"]


def test_markdown_comes_as_a_zip_with_all_branches(operator, alice):
    conversation = talk(alice, "One", "Two")
    say(conversation, conversation.messages.get(content="One"), "Another")

    response = choose(operator, "export_as_markdown", conversation)

    with zipfile.ZipFile(io.BytesIO(body(response))) as archive:
        [name] = archive.namelist()
        assert name == f"Sourdough-{conversation.pk}.md"
        assert b"Two" in archive.read(name)


def test_who_may_view_may_export_and_nobody_else(client, alice):
    conversation = talk(alice, "Hello")
    viewer = User.objects.create_user("viewer", password="pw", is_staff=True)
    client.force_login(viewer)
    assert choose(client, "export_as_json", conversation).status_code == 403

    viewer.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    assert choose(client, "export_as_json", conversation).status_code == 200


def test_the_list_offers_it(operator, alice):
    talk(alice, "Hello")

    page = operator.get(URL).content.decode()

    assert "Export as JSON" in page
    assert "Export as Markdown (zip)" in page
