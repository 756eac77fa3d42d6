from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from conversations import tree
from conversations.errors import ConversationBusy, ConversationFull

if TYPE_CHECKING:
    from accounts.models import User


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        """The one door to conversations: every view, socket and command starts here."""
        return self.filter(owner_id=user.pk) if user.is_authenticated else self.none()

    def newest_first(self) -> Self:
        return self.order_by("-updated_at", "-id")

    def with_room_for(self, messages: int, characters: int) -> Self:
        """Those that would be within the limits with this much more in them."""
        room = self.all()
        if limit := settings.CHAT_MAX_CONVERSATION_MESSAGES:
            room = room.filter(message_count__lte=limit - messages)
        if limit := settings.CHAT_MAX_CONVERSATION_CHARS:
            room = room.filter(character_count__lte=limit - characters)
        return room


class Conversation(models.Model):
    class TitleSource(models.TextChoices):
        AUTO = "auto"
        USER = "user"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    title_source = models.CharField(max_length=4, choices=TitleSource.choices, default=TitleSource.AUTO)
    model_name = models.CharField(max_length=200, blank=True)
    system_prompt = models.TextField(blank=True)
    options = models.JSONField(default=dict, blank=True)
    is_pinned = models.BooleanField(default=False)
    is_archived = models.BooleanField(default=False)
    message_count = models.PositiveIntegerField(default=0, editable=False)
    character_count = models.PositiveBigIntegerField(default=0, editable=False)
    active_leaf = models.ForeignKey(
        "Message", null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    source = models.CharField(max_length=30, default="api", editable=False)
    source_id = models.CharField(max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "source", "source_id"],
                condition=~Q(source_id=""),
                name="conversation_imported_once",
            ),
        ]
        indexes = [
            # GET /api/conversations: one owner's unarchived (or archived), newest activity first.
            models.Index(fields=["owner", "is_archived", "-updated_at", "-id"], name="conversation_list"),
            # The same with ?is_archived=any, and the export of everything one owner has.
            models.Index(fields=["owner", "-updated_at", "-id"], name="conversation_owned"),
        ]

    def __str__(self) -> str:
        return self.title or "Untitled"

    def path(self, leaf: UUID | None = None, limit: int = tree.EVERYTHING) -> list[Message]:
        """The newest `limit` messages of the path that ends at `leaf` (default: the active one), oldest first."""
        leaf = leaf or self.active_leaf_id
        return Message.objects.in_order(reversed(tree.climb(leaf, limit))) if leaf else []

    def switch_to(self, message: Message) -> None:
        """Show the branch that `message` is on, down to its newest leaf."""
        self.active_leaf_id = tree.newest_leaf(message.pk)
        self.save(update_fields=["active_leaf"])

    @transaction.atomic
    def open_reply(
        self, parent: Message | None, content: str | None, images: Sequence[str] = (), model_name: str = ""
    ) -> tuple[Message, Message]:
        """Write the user's message under `parent`, and an empty reply under it that is to be streamed.

        `content` None asks for another reply to `parent`, which is then a user message. Returns the user's message
        and the reply. Raises ConversationBusy while another reply is being written, ConversationFull at the limits.
        """
        asked = content is not None
        # Claims the row: everything below sees, and changes, what nobody else is changing.
        room = Conversation.objects.filter(pk=self.pk)
        if asked:
            room = room.with_room_for(messages=2, characters=len(content or ""))
        else:
            room = room.with_room_for(messages=1, characters=0)
        now = timezone.now()
        claimed = room.update(
            message_count=F("message_count") + (2 if asked else 1),
            character_count=F("character_count") + len(content or ""),
            updated_at=now,
        )
        if not claimed:
            raise ConversationFull
        if asked:
            parent = self.messages.create(parent=parent, role=Message.Role.USER, content=content, images=list(images))
        assert parent is not None, "another reply needs a message to reply to"
        try:
            reply = self.messages.create(
                parent=parent,
                role=Message.Role.ASSISTANT,
                status=Message.Status.STREAMING,
                model_name=model_name,
            )
        except IntegrityError as exc:
            raise ConversationBusy from exc
        Conversation.objects.filter(pk=self.pk).update(active_leaf=reply)
        self.refresh_from_db(fields=["message_count", "character_count", "active_leaf", "updated_at"])
        return parent, reply


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a running reply, as far as it has come."""

    message_id: UUID
    content: str
    thinking: str


class MessageQuerySet(models.QuerySet["Message"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self.filter(conversation__owner_id=user.pk) if user.is_authenticated else self.none()

    def in_order(self, ids: Iterable[UUID]) -> list[Message]:
        """The messages with these ids, in this order."""
        ids = list(ids)
        found = self.in_bulk(ids)
        return [found[pk] for pk in ids if pk in found]

    def checkpoint(self, drafts: Iterable[Draft]) -> None:
        """Keep the text of running replies. One statement for all; a reply that has ended meanwhile is left alone."""
        pk = Message._meta.pk
        rows = [(draft.content, draft.thinking, pk.get_db_prep_value(draft.message_id, connection)) for draft in drafts]
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE conversations_message SET content = %s, thinking = %s WHERE id = %s AND status = 'streaming'",
                rows,
            )


class Message(models.Model):
    class Role(models.TextChoices):
        SYSTEM = "system"
        USER = "user"
        ASSISTANT = "assistant"
        TOOL = "tool"

    class Status(models.TextChoices):
        COMPLETE = "complete"
        STREAMING = "streaming"
        STOPPED = "stopped"
        INTERRUPTED = "interrupted"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")
    role = models.CharField(max_length=9, choices=Role.choices)
    content = models.TextField(blank=True)
    thinking = models.TextField(blank=True)
    tool_calls = models.JSONField(default=list, blank=True)
    images = models.JSONField(default=list, blank=True)
    status = models.CharField(max_length=11, choices=Status.choices, default=Status.COMPLETE)
    model_name = models.CharField(max_length=200, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(role__in=["system", "user", "assistant", "tool"]), name="message_role_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["complete", "streaming", "stopped", "interrupted", "failed"]),
                name="message_status_known",
            ),
            # One reply at a time: the second of two sends at once fails here.
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(status="streaming"),
                name="message_one_streaming_per_conversation",
            ),
        ]
        indexes = [
            # The siblings of a message in order of making, and the first messages of a conversation (parent is null).
            models.Index(fields=["conversation", "parent", "id"], name="message_siblings"),
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"

    def settle(self, status: Message.Status, **fields: Any) -> bool:
        """End a running reply with its last text and counts. False if it had ended already: then nothing changes."""
        written = Message.objects.filter(pk=self.pk, status=self.Status.STREAMING).update(status=status, **fields)
        if written:
            Conversation.objects.filter(pk=self.conversation_id).update(
                character_count=F("character_count") + len(fields.get("content", "")),
                updated_at=timezone.now(),
            )
        return bool(written)
