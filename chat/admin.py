from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from chat.models import Generation
from chat.replay import usage


@admin.register(Generation)
class GenerationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """For looking: what ran, for whom, how it ended and how fast it was."""

    list_display = ["id", "requested_by", "model_name", "status", "error_code", "created_at", "duration", "speed"]
    list_filter = ["status", "error_code", "model_name"]
    list_select_related = ["requested_by", "message"]
    search_fields = ["id", "requested_by__username", "model_name"]
    ordering = ["-id"]
    show_full_result_count = False
    exclude = ["idempotency_digest"]
    raw_id_fields = ["message", "requested_by"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It goes with its conversation."""
        return False

    @admin.display(description="took")
    def duration(self, generation: Generation) -> str:
        if not generation.finished_at:
            return "running"
        return f"{(generation.finished_at - generation.created_at).total_seconds():.1f} s"

    @admin.display(description="tokens/s")
    def speed(self, generation: Generation) -> str:
        speed = usage(generation)["tokens_per_second"]
        return f"{speed:.1f}" if speed else ""
