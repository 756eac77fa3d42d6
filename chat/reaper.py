"""Ends what a process that is no more has left running."""

import asyncio
import logging
from datetime import timedelta

from django import db
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from chat.models import Generation, GenerationQuerySet
from chat.run import DRAINED, message_status
from conversations.models import Conversation
from streams.threads import in_database_thread
from streams.workers import is_dead, is_of_this_host

logger = logging.getLogger(__name__)

HEARTBEAT_MAY_BE_OLD = timedelta(seconds=30)
LOOK_AGAIN_SECONDS = 5.0


def reap() -> int:
    """Mark as interrupted what has lost its process, and give how many there were.

    A process of this host is looked up: what a living one runs is left alone, however long it is silent. Those of
    other hosts are known by the heartbeat of their checkpoints only.
    """
    return sum(_interrupt(generation) for generation in _lost())


async def keep_reaping() -> None:
    while True:
        try:
            if reaped := await in_database_thread(reap)():
                logger.warning("%s replies were interrupted by the end of their process", reaped)
        except db.Error:
            logger.exception("Cannot look for interrupted replies just now")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _lost() -> GenerationQuerySet:
    running = Generation.objects.running()
    workers = set(running.values_list("worker_id", flat=True).distinct())
    elsewhere = {worker for worker in workers if not is_of_this_host(worker)}
    dead = {worker for worker in workers - elsewhere if is_dead(worker)}
    silent = Q(worker_id__in=elsewhere, heartbeat_at__lt=timezone.now() - HEARTBEAT_MAY_BE_OLD)
    return running.filter(silent | Q(worker_id__in=dead)).told()


@transaction.atomic
def _interrupt(seen: Generation) -> bool:
    """False if it has ended, or has shown a sign of life, since it was seen."""
    message = seen.message
    Conversation.objects.hold(message.conversation_id)
    as_seen = Generation.objects.running().filter(pk=seen.pk, heartbeat_at=seen.heartbeat_at)
    if not as_seen.select_for_update().exists():
        return False
    message.refresh_from_db(fields=["content", "thinking", "tool_calls"])
    has_brought_something = bool(message.content or message.thinking or message.tool_calls)
    seen.finish(
        Generation.Status.INTERRUPTED if has_brought_something else Generation.Status.FAILED,
        # A reader may have seen numbers that were never saved. What it is told now is numbered beyond them.
        last_seq=seen.last_seq + 2,
        error_code=DRAINED.code,
        error_detail=DRAINED.detail,
        error_is_retryable=DRAINED.retryable,
    )
    return message.settle(message_status(Generation.Status.INTERRUPTED, has_brought_something))
