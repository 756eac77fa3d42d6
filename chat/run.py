"""One generation, from its first event to its last."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django import db
from django.db import transaction
from django.utils import timezone

from chat.events import Failed, Token, ToolCalls
from chat.models import Checkpoint, Generation
from chat.replay import last_event
from conversations.models import Conversation, Draft, Message
from llm_models import ollama
from llm_models.errors import OllamaError
from streams.events import Event
from streams.log.base import Log
from streams.threads import in_saving_thread

logger = logging.getLogger(__name__)

# That may be given out before the next checkpoint. After a crash, readers are told the rest under numbers beyond them.
RESERVED_NUMBERS = 10_000

NUMBERS_FOR_THE_END = 2  # tool calls may come with the last text


@dataclass(frozen=True, slots=True)
class Ending:
    status: Generation.Status
    code: str = ""
    detail: str = ""
    retryable: bool = False


COMPLETED = Ending(Generation.Status.COMPLETED)
STOPPED = Ending(Generation.Status.STOPPED)
DRAINED = Ending(
    Generation.Status.INTERRUPTED, "interrupted", "The server was stopped before the reply was complete.", True
)
CRASHED = Ending(
    Generation.Status.INTERRUPTED,
    "internal_error",
    "Something went wrong on our side. The server's log tells more.",
    True,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to Ollama."""

    model_name: str
    messages: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None


class Run:
    def __init__(self, generation: Generation, prompt: Prompt, opening: list[Event]) -> None:
        self.generation = generation
        self.prompt = prompt
        self.opening = opening
        self.loop: asyncio.AbstractEventLoop
        self.log: Log
        self._hurry: Callable[[], None]
        self._was_checkpointed = asyncio.Event()
        self._first_token_at: datetime | None = None
        self._numbers = generation.last_seq  # how far they are saved
        self._has_news = False
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._done: ollama.Done | None = None
        self._relaying: asyncio.Task[None] | None = None
        self._early_ending: Ending | None = None

    def begin(self, log: Log, hurry: Callable[[], None]) -> None:
        """On the loop on which it is to live. `hurry` asks for a checkpoint now."""
        self.loop = asyncio.get_running_loop()
        self.log = log
        self._hurry = hurry
        for event in self.opening:
            log.append(event)

    async def live(self) -> None:
        """Whatever happens, the row is settled, and only then is the last event said."""
        ending = await self._relay_to_the_end()
        self.log.append(await self._settle(ending))

    def end(self, ending: Ending) -> None:
        """Close the connection to Ollama and end like this, unless the reply is complete already."""
        self._early_ending = self._early_ending or ending
        if self._relaying:
            self._relaying.cancel()

    def checkpoint(self) -> Checkpoint:
        changes: dict[str, Any] = {}
        if self._first_token_at and not self.generation.first_token_at:
            changes["first_token_at"] = self._first_token_at
        if self._numbers - self.log.last_seq < RESERVED_NUMBERS / 2:
            changes["last_seq"] = self.log.last_seq + RESERVED_NUMBERS
        draft = Draft(self.generation.message_id, self.content, self.thinking) if self._has_news else None
        self._has_news = False
        return Checkpoint(self.generation.pk, draft, changes)

    def checkpointed(self, checkpoint: Checkpoint, is_running: bool, stop_requested: bool) -> None:
        """It is saved. A row that no longer runs has been ended, or deleted, by someone else."""
        self._was_checkpointed.set()
        self._numbers = checkpoint.changes.get("last_seq", self._numbers)
        self.generation.first_token_at = checkpoint.changes.get("first_token_at", self.generation.first_token_at)
        if stop_requested or not is_running:
            self.end(STOPPED)

    def not_checkpointed(self) -> None:
        self._has_news = True

    @property
    def content(self) -> str:
        self._content = ["".join(self._content)]
        return self._content[0]

    @property
    def thinking(self) -> str:
        self._thinking = ["".join(self._thinking)]
        return self._thinking[0]

    @property
    def has_brought_something(self) -> bool:
        return bool(self.content or self.thinking or self._tool_calls)

    async def _relay_to_the_end(self) -> Ending:
        if self._early_ending:
            return self._early_ending
        # A task of its own, so that stopping cancels this and never the saving that follows.
        self._relaying = asyncio.ensure_future(self._relay())
        try:
            await self._relaying
        except OllamaError as exc:
            logger.warning("Generation %s: %s", self.generation.pk, exc.default_code)
            return Ending(Generation.Status.INTERRUPTED, exc.default_code, str(exc.detail), exc.retryable)
        except asyncio.CancelledError:
            return self._early_ending or DRAINED
        except Exception:
            logger.exception("Generation %s crashed", self.generation.pk)
            return CRASHED
        finally:
            self._relaying = None
        return COMPLETED

    async def _relay(self) -> None:
        prompt = self.prompt
        chat = ollama.chat(
            prompt.model_name, prompt.messages, options=prompt.options, think=prompt.think, format=prompt.format
        )
        async with aclosing(chat) as chunks:
            async for chunk in chunks:
                self._take(chunk)
                while self.log.last_seq + NUMBERS_FOR_THE_END > self._numbers:
                    self._was_checkpointed.clear()
                    self._hurry()
                    await self._was_checkpointed.wait()

    def _take(self, chunk: ollama.Chunk) -> None:
        if self._first_token_at is None:
            self._first_token_at = timezone.now()
        content, thinking = chunk.content, chunk.thinking
        if content or thinking:
            self._has_news = True
            self._content.append(content)
            if thinking:
                self._thinking.append(thinking)
            self.log.append(Token(content, thinking))
        if chunk.tool_calls:
            self._tool_calls += chunk.tool_calls
            self.log.append(ToolCalls(chunk.tool_calls))
        if chunk.done:
            self._done = chunk.done

    async def _settle(self, ending: Ending) -> Event:
        """Save until it is saved: a locked database or a full disk passes, a lost reply does not come back."""
        delay = 0.1
        while True:
            try:
                return await in_saving_thread(self._save)(ending)
            except db.Error:
                logger.exception("Generation %s cannot be saved; trying again in %.1f s", self.generation.pk, delay)
            except Exception:
                logger.exception("Generation %s cannot be saved as it is", self.generation.pk)
                if ending is CRASHED:
                    return Failed(CRASHED.code, CRASHED.detail, str(self.generation.message_id), CRASHED.retryable)
                # Only what Ollama sent beside the text could be odd: better saved without it than not at all.
                ending, self._done, self._tool_calls = CRASHED, None, []
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    def _save(self, ending: Ending) -> Event:
        generation, message = self.generation, self.generation.message
        with transaction.atomic():
            Conversation.objects.hold(message.conversation_id)
            ended_here = generation.finish(
                ending.status if self.has_brought_something or not ending.code else Generation.Status.FAILED,
                last_seq=self.log.last_seq + 1,
                first_token_at=self._first_token_at,
                error_code=ending.code,
                error_detail=ending.detail[:500],
                error_is_retryable=ending.retryable,
                **self._measured(ending),
            ) and message.settle(
                message_status(ending.status, self.has_brought_something),
                content=self.content,
                thinking=self.thinking,
                tool_calls=self._tool_calls,
                prompt_tokens=self._done.prompt_eval_count if self._done else None,
                completion_tokens=self._done.eval_count if self._done else None,
            )
        try:
            if not ended_here:
                generation = Generation.objects.told().get(pk=generation.pk)
            generation.message.conversation.refresh_from_db(fields=["title", "message_count"])
        except (Generation.DoesNotExist, Conversation.DoesNotExist):
            return Failed("interrupted", "The conversation was deleted.", str(message.pk), retryable=True)
        return last_event(generation)

    def _measured(self, ending: Ending) -> dict[str, Any]:
        if ending is STOPPED:
            return {"done_reason": "stopped"}
        if self._done is None:
            return {}
        return {
            "done_reason": self._done.done_reason[:40],
            "total_duration": self._done.total_duration,
            "load_duration": self._done.load_duration,
            "prompt_eval_duration": self._done.prompt_eval_duration,
            "eval_duration": self._done.eval_duration,
        }


def message_status(status: Generation.Status, has_brought_something: bool) -> Message.Status:
    """The state of the message that a run leaves behind when it ends with this status."""
    match status:
        case Generation.Status.COMPLETED:
            return Message.Status.COMPLETE
        case Generation.Status.STOPPED:
            return Message.Status.STOPPED
        case _:
            return Message.Status.INTERRUPTED if has_brought_something else Message.Status.FAILED
