"""What a finished reply tells, as the database has it."""

from typing import Any

from chat.events import Done, Failed, Snapshot
from chat.models import Generation
from streams.events import Event


def snapshot(generation: Generation) -> Snapshot:
    message = generation.message
    return Snapshot(str(message.pk), message.content, message.thinking, message.tool_calls, message.status)


def last_event(generation: Generation) -> Event:
    message = generation.message
    if generation.status not in (Generation.Status.COMPLETED, Generation.Status.STOPPED):
        return Failed(
            generation.error_code, generation.error_detail, str(message.pk), retryable=generation.error_is_retryable
        )
    conversation = message.conversation
    return Done(
        str(message.pk),
        status=message.status,
        done_reason=generation.done_reason,
        usage=usage(generation),
        conversation={
            "id": str(conversation.pk),
            "title": conversation.title,
            "message_count": conversation.message_count,
        },
    )


def usage(generation: Generation) -> dict[str, Any]:
    """Ollama's counts and times, in milliseconds where it has nanoseconds. None where it told nothing."""
    message = generation.message
    started_at, first_token_at = generation.started_at, generation.first_token_at
    waited = (first_token_at - started_at).total_seconds() * 1000 if started_at and first_token_at else None
    speed = None
    if message.completion_tokens and generation.eval_duration:
        speed = round(message.completion_tokens / generation.eval_duration * 1e9, 2)
    return {
        "prompt_tokens": message.prompt_tokens,
        "completion_tokens": message.completion_tokens,
        "total_duration_ms": _milliseconds(generation.total_duration),
        "load_duration_ms": _milliseconds(generation.load_duration),
        "time_to_first_token_ms": round(waited) if waited is not None else None,
        "tokens_per_second": speed,
    }


def _milliseconds(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6)
