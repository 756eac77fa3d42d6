"""Starts, checkpoints and stops generations. Knows nothing of HTTP or sockets: the doors read the logs it fills."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from chat import replay
from chat.ask import Ask
from chat.errors import GenerationFinished, ServerBusy
from chat.models import Generation
from chat.opening import open_run
from chat.run import DRAINED, STOPPED, Run
from streams import tasks
from streams.events import Numbered
from streams.log.memory import MemoryLogs
from streams.threads import call_soon, in_saving_thread
from streams.workers import worker_id

if TYPE_CHECKING:
    from accounts.models import User

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 0.9  # with the time that writing takes, a crash costs at most a second of text
LAST_SAVES_SECONDS = 10.0


class Engine:
    """The generations that run in this process."""

    def __init__(self) -> None:
        self.logs = MemoryLogs()
        self.is_draining = False
        self._worker_id = worker_id()
        self._runs: dict[UUID, Run] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._checkpointing: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event  # a run waits for the next checkpoint

    def begin(self, user: "User", ask: Ask, idempotency_key: str = "") -> Generation:
        """Commit what was said and an empty reply, and have the loop run the generation. In a database thread.

        A key that was used before gives the generation that it made then. Raises what the client is to be told.
        """
        if self.is_draining:
            raise ServerBusy
        opened = open_run(user, ask, idempotency_key, self._worker_id)
        if isinstance(opened, Generation):
            return opened
        call_soon(self._launch, opened)
        return opened.generation

    def follow(
        self, generation_id: UUID, after: int = 0, idle: float | None = None
    ) -> AsyncGenerator[list[Numbered] | None, None]:
        """The events beyond number `after`: live, or as the database keeps them (see Log.read)."""
        log = self.logs.get(generation_id)
        return log.read(after, idle) if log else replay.follow(generation_id, after, idle)

    def nothing_after(self, generation: Generation, after: int) -> bool:
        """The reader has seen the last event."""
        if log := self.logs.get(generation.pk):
            return log.nothing_after(after)
        return generation.is_finished and after == generation.last_seq

    def stop(self, generation: Generation) -> None:
        """Have it end with the text it has, wherever it runs. On any thread. Raises GenerationFinished."""
        if not Generation.objects.filter(pk=generation.pk).running().update(stop_requested_at=timezone.now()):
            raise GenerationFinished
        if run := self._runs.get(generation.pk):
            run.loop.call_soon_threadsafe(run.end, STOPPED)

    async def drain(self, seconds: float) -> None:
        """Take no more; give what runs so long to finish, then save it as interrupted."""
        self.is_draining = True
        if self._lives:
            logger.info("Waiting up to %s s for %s replies to finish", seconds, len(self._lives))
            await asyncio.wait(self._lives, timeout=seconds)
        for run in self._runs.values():
            run.end(DRAINED)
        if self._lives:
            await asyncio.wait(self._lives, timeout=LAST_SAVES_SECONDS)

    async def checkpoint(self) -> None:
        """Save the text of all runs, and end those that someone elsewhere wants stopped, or has taken away."""
        runs = list(self._runs.values())
        checkpoints = [run.checkpoint() for run in runs]
        try:
            running = await in_saving_thread(Generation.objects.checkpoint)(checkpoints)
        except BaseException:
            for run in runs:
                run.not_checkpointed()
            raise
        for run, checkpoint in zip(runs, checkpoints, strict=True):
            key = run.generation.pk
            run.checkpointed(checkpoint, is_running=key in running, stop_requested=bool(running.get(key)))

    def _launch(self, run: Run) -> None:
        if self._checkpointing is None or self._checkpointing.done():
            self._hurry = asyncio.Event()
            self._checkpointing = tasks.spawn(self._keep_checkpointing(), name="checkpoints")
        run.begin(self.logs.create(run.generation.pk, keep_seconds=settings.CHAT_LOG_SECONDS), self._hurry.set)
        self._runs[run.generation.pk] = run
        life = tasks.spawn(run.live(), name=f"generation {run.generation.pk}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        life.add_done_callback(lambda _: self._runs.pop(run.generation.pk))

    async def _keep_checkpointing(self) -> None:
        """One after the other: of two at once, the older text could be saved last."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECKPOINT_SECONDS):
                    await self._hurry.wait()
            if not self._runs:
                return
            self._hurry.clear()
            try:
                await self.checkpoint()
            except Exception:
                logger.exception("Running replies cannot be saved just now")


engine = Engine()
