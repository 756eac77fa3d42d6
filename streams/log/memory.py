"""The event log of runs that live in this process."""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator
from dataclasses import fields
from functools import partial
from uuid import UUID

from streams.events import Delta, Event, Numbered
from streams.log.base import Log, Logs


class _Single:
    """One event that is not a delta."""

    def __init__(self, seq: int, event: Event) -> None:
        self.first = self.last = seq
        self.event = event

    def since(self, after: int) -> Event:
        return self.event


class _Deltas:
    """Neighbouring deltas of one kind.

    Kept as they came while they are new, for most readers are up to date and are told them one by one. A full run of
    them is packed: the joined text and where each delta ends in it, which is a tenth of the memory.
    """

    FULL = 256

    def __init__(self, first: int, delta: Delta) -> None:
        self.first = self.last = first
        self.kind = type(delta)
        self._new = [delta]
        self._texts: list[str] = []
        self._ends: list[array[int]] = []

    @property
    def is_packed(self) -> bool:
        return not self._new

    def takes(self, event: Event) -> bool:
        return type(event) is self.kind and not self.is_packed

    def add(self, delta: Delta) -> None:
        self._new.append(delta)
        self.last += 1
        if len(self._new) == self.FULL:
            self.pack()

    def since(self, after: int) -> Event:
        skipped = max(after - self.first + 1, 0)
        if self.is_packed:
            return self.kind(
                *(
                    text[ends[skipped - 1] if skipped else 0 :]
                    for text, ends in zip(self._texts, self._ends, strict=True)
                )
            )
        if len(self._new) - skipped == 1:
            return self._new[-1]
        return self.kind.joined(self._new[skipped:])

    def pack(self) -> None:
        for field in fields(self.kind):
            texts = [getattr(delta, field.name) for delta in self._new]
            ends, end = array("L"), 0
            for text in texts:
                end += len(text)
                ends.append(end)
            self._texts.append("".join(texts))
            self._ends.append(ends)
        self._new = []


class MemoryLog(Log):
    """Belongs to one event loop: what is appended there wakes the readers there."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.is_closed = False
        self._runs: list[_Single | _Deltas] = []
        self._waiting: list[asyncio.Future[bool]] = []

    def append(self, event: Event) -> None:
        self.last_seq += 1
        newest = self._runs[-1] if self._runs else None
        if isinstance(newest, _Deltas) and newest.takes(event):
            newest.add(event)  # type: ignore[arg-type]  # takes() looked at its type
        elif isinstance(event, Delta):
            self._runs.append(_Deltas(self.last_seq, event))
        else:
            self._runs.append(_Single(self.last_seq, event))
        if event.is_last:
            self._close()
        self._wake()

    async def read(self, after: int = 0, idle: float | None = None) -> AsyncGenerator[list[Numbered] | None, None]:
        if after > self.last_seq:
            after = 0
        while True:
            if after < self.last_seq:
                news = self._since(after)
                after = self.last_seq
                yield news
            elif self.is_closed:
                return
            elif not await self._news(idle):
                yield None

    def _since(self, after: int) -> list[Numbered]:
        newest = self._runs[-1]
        if newest.first <= after + 1:
            return [(newest.last, newest.since(after))]
        start = bisect_right(self._runs, after, key=lambda run: run.last)
        return [(run.last, run.since(after)) for run in self._runs[start:]]

    async def _news(self, idle: float | None) -> bool:
        """Wait for the next event. False if `idle` seconds went by without one."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(waiter)
        # asyncio.wait_for() would cost a task for each token.
        alarm = loop.call_later(idle, self._give_up, waiter) if idle is not None else None
        try:
            return await waiter
        finally:
            if alarm:
                alarm.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    @staticmethod
    def _give_up(waiter: asyncio.Future[bool]) -> None:
        if not waiter.done():
            waiter.set_result(False)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(True)

    def _close(self) -> None:
        self.is_closed = True
        for run in self._runs:
            if isinstance(run, _Deltas) and not run.is_packed:
                run.pack()


class MemoryLogs(Logs):
    def __init__(self) -> None:
        self._logs: dict[UUID, _KeptLog] = {}

    def create(self, run_id: UUID, keep_seconds: float) -> Log:
        log = _KeptLog(self._logs, run_id, keep_seconds)
        self._logs[run_id] = log
        return log

    def get(self, run_id: UUID) -> Log | None:
        return self._logs.get(run_id)


class _KeptLog(MemoryLog):
    def __init__(self, logs: dict[UUID, "_KeptLog"], run_id: UUID, keep_seconds: float) -> None:
        super().__init__()
        self._keep_seconds = keep_seconds
        self._forget = partial(logs.pop, run_id, None)

    def _close(self) -> None:
        super()._close()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._forget)
