from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from conversations.models import Draft, Message

if TYPE_CHECKING:
    from accounts.models import User


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What there is to save of one running generation: its new text, if any, and fields that changed."""

    generation_id: UUID
    draft: Draft | None
    changes: dict[str, Any]


class GenerationQuerySet(models.QuerySet["Generation"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self.filter(requested_by_id=user.pk) if user.is_authenticated else self.none()

    def running(self) -> Self:
        return self.filter(status__in=Generation.RUNNING)

    def count_running_of(self, user: User) -> int:
        with connection.cursor() as cursor:
            # In SQL: it is asked before each message, and the ORM would take longer to build it than to run it.
            cursor.execute(
                "SELECT count(*) FROM chat_generation WHERE requested_by_id = %s AND status IN ('queued', 'running')",
                [user.pk],
            )
            return int(cursor.fetchone()[0])

    def told(self) -> Self:
        """With what a client is told of them: their message and its conversation."""
        return self.select_related("message__conversation").defer("message__images")

    @transaction.atomic
    def checkpoint(self, checkpoints: Iterable[Checkpoint]) -> dict[UUID, datetime | None]:
        """Save these all at once. Gives those that still run, with the time at which someone asked to stop them."""
        checkpoints = list(checkpoints)
        beating = self.filter(pk__in=[checkpoint.generation_id for checkpoint in checkpoints]).running()
        beating.update(heartbeat_at=timezone.now())
        for checkpoint in checkpoints:
            if checkpoint.changes:
                self.filter(pk=checkpoint.generation_id).running().update(**checkpoint.changes)
        Message.objects.checkpoint([checkpoint.draft for checkpoint in checkpoints if checkpoint.draft])
        return dict(beating.values_list("pk", "stop_requested_at"))


class Generation(models.Model):
    """The run that wrote one assistant message."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        COMPLETED = "completed"
        STOPPED = "stopped"
        INTERRUPTED = "interrupted"
        FAILED = "failed"

    RUNNING = (Status.QUEUED, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="generation")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="generations",
        db_index=False,  # generation_list begins with it; a third one would draw SQLite away from generation_running
    )
    model_name = models.CharField(max_length=200)
    status = models.CharField(max_length=11, choices=Status.choices, default=Status.QUEUED)
    worker_id = models.CharField(max_length=120)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    # The highest number given out on the event log, or, while running, the highest that may be before it is saved anew.
    last_seq = models.PositiveBigIntegerField()
    # Null, not empty, where there is none: then one plain index keeps it unique and finds it.
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    idempotency_digest = models.CharField(max_length=64, blank=True)
    context = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_detail = models.CharField(max_length=500, blank=True)
    error_is_retryable = models.BooleanField(default=False)
    done_reason = models.CharField(max_length=40, blank=True)
    # As Ollama reports them, in nanoseconds.
    total_duration = models.BigIntegerField(null=True, blank=True)
    load_duration = models.BigIntegerField(null=True, blank=True)
    prompt_eval_duration = models.BigIntegerField(null=True, blank=True)
    eval_duration = models.BigIntegerField(null=True, blank=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["requested_by", "idempotency_key"], name="generation_idempotency_key_once_per_user"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "completed", "stopped", "interrupted", "failed"]),
                name="generation_status_known",
            ),
        ]
        indexes = [
            # "How many has this user running", asked before each message, and all that run, for the reaper.
            models.Index(
                fields=["requested_by", "heartbeat_at"],
                condition=Q(status__in=["queued", "running"]),
                name="generation_running",
            ),
            # GET /api/chat/generations: one user's, newest first.
            models.Index(fields=["requested_by", "-id"], name="generation_list"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def is_finished(self) -> bool:
        return self.status not in self.RUNNING

    def finish(self, status: Status, **fields: Any) -> bool:
        """End it, unless someone else was faster: what has ended stays as it ended."""
        fields = {"status": status, "finished_at": timezone.now(), **fields}
        if not Generation.objects.filter(pk=self.pk).running().update(**fields):
            return False
        for name, value in fields.items():
            setattr(self, name, value)
        return True
