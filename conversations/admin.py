from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from conversations.models import Conversation, Message
from conversations.paging import PathReader

MESSAGES_SHOWN = 100
CHARACTERS_SHOWN = 2_000


# type-arg: these classes take arguments in the stubs only, not when they run.
@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = [
        "__str__",
        "owner",
        "model_name",
        "message_count",
        "is_pinned",
        "is_archived",
        "source",
        "updated_at",
    ]
    list_filter = ["is_pinned", "is_archived", "source", "updated_at"]
    list_select_related = ["owner"]
    search_fields = ["title", "owner__username", "=id"]
    ordering = ["-id"]
    show_full_result_count = False
    raw_id_fields = ["owner"]
    fields = [
        "title",
        "owner",
        "model_name",
        "system_prompt",
        "options",
        ("is_pinned", "is_archived"),
        ("source", "source_id"),
        ("message_count", "character_count"),
        ("created_at", "updated_at"),
        "newest_messages",
    ]
    readonly_fields = [
        "options",
        "source",
        "source_id",
        "message_count",
        "character_count",
        "created_at",
        "updated_at",
        "newest_messages",
    ]

    @admin.display(description="Messages")
    def newest_messages(self, conversation: Conversation) -> SafeString:
        """The end of the active path, and a way to all the others."""
        shown = PathReader.active(conversation).newest(MESSAGES_SHOWN).messages
        every = reverse("admin:conversations_message_changelist") + f"?conversation__id__exact={conversation.pk}"
        return format_html(
            '<p><a href="{}">All {} messages</a>, and the newest of the active path:</p>{}',
            every,
            conversation.message_count,
            format_html_join("", _A_MESSAGE, map(_cells, shown)),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Conversation, form: forms.ModelForm[Any], change: bool) -> None:
        """Only what was changed: a reply may be counting messages meanwhile."""
        edited = {name: form.cleaned_data[name] for name in form.changed_data}
        Conversation.objects.get(pk=obj.pk).edit(**edited)

    def get_deleted_objects(  # type: ignore[override]  # the stubs want lists of lists
        self, objs: QuerySet[Conversation], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Django's own would fetch and name every message."""
        conversations = list(objs)
        counts = {
            "conversations": len(conversations),
            "messages": sum(conversation.message_count for conversation in conversations),
        }
        return [str(conversation) for conversation in conversations], counts, set(), []

    @transaction.atomic
    def delete_model(self, request: HttpRequest, obj: Conversation) -> None:
        Conversation.objects.lock(obj.pk)
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        for conversation in queryset:
            self.delete_model(request, conversation)


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """For reading only: a message taken out would take all below it along."""

    list_display = ["id", "role", "status", "excerpt", "conversation", "model_name", "created_at"]
    list_filter = ["role", "status"]
    list_select_related = ["conversation"]
    search_fields = ["=id", "=conversation__id"]
    ordering = ["-id"]
    show_full_result_count = False
    exclude = ["images"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        messages: QuerySet[Message] = super().get_queryset(request).annotate(beginning=Left("content", 80))
        return messages.defer("images", "content", "thinking", "conversation__system_prompt", "conversation__options")

    @admin.display(description="Content")
    def excerpt(self, message: Message) -> str:
        beginning: str = message.beginning  # type: ignore[attr-defined]
        return beginning

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        # Django asks here, too, whether a user may go with all their messages.
        page = request.resolver_match
        if page and page.view_name.startswith("admin:conversations_message_"):
            return False
        return super().has_delete_permission(request, obj)


_A_MESSAGE = (
    '<p><a href="{}"><b>{}</b></a> · {} · {}</p>'
    '<p style="white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid; padding-left: 1em">{}</p>'
)


def _cells(message: Message) -> tuple[str, ...]:
    text = message.content
    return (
        reverse("admin:conversations_message_change", args=[message.pk]),
        message.role,
        message.status,
        f"{message.created_at:%Y-%m-%d %H:%M:%S}",
        text if len(text) <= CHARACTERS_SHOWN else text[:CHARACTERS_SHOWN] + "…",
    )
