"""Conversations that are exported, and what is got of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from conversations.models import Conversation, Message

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)

HOSTILE = '<script>alert(1)</script> <img src="http://example.org/x.png" onerror="alert(2)"> [x](javascript:alert(3))'


def talk(owner, *texts: str, title: str = "Sourdough", **fields: Any) -> Conversation:
    """One that goes back and forth with these texts, a minute each."""
    conversation = Conversation.objects.create(owner=owner, title=title, **fields)
    parent = None
    for number, text in enumerate(texts):
        parent = say(conversation, parent, text, created_at=NOON + timedelta(minutes=number))
    return conversation


def say(conversation: Conversation, parent: Message | None, content: str, **fields: Any) -> Message:
    """The next turn under `parent`, which is the active leaf from now on."""
    is_reply = parent is not None and parent.role == Message.Role.USER
    fields = {"role": "assistant" if is_reply else "user", "model_name": "llama3.2" if is_reply else "", **fields}
    message = Message(conversation=conversation, parent=parent, content=content, **fields)
    Message.objects.bulk_create([message])
    conversation.active_leaf = message
    conversation.message_count += 1
    conversation.character_count += len(content)
    conversation.save()
    return message


def body(response) -> bytes:
    assert response.status_code == 200, response.content
    return b"".join(response.streaming_content)


def export(client, conversation: Conversation, name: str, query: str = "") -> bytes:
    return body(client.get(f"/api/export/conversations/{conversation.pk}/{name}?{query}"))


def document(client, conversation: Conversation) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(export(client, conversation, "json"))
    return read


def documents(jsonl: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in jsonl.splitlines()]
