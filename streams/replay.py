"""What a reader is told of a run whose log is not here: what the database holds of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from streams.events import Event, Numbered
from streams.threads import in_database_thread

LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Closed:
    """The highest number given out, and the events that stand for all it told; None while it still runs."""

    last_seq: int
    events: Sequence[Event] | None


async def follow(
    look: Callable[[], Closed | None], after: int, idle: float | None
) -> AsyncGenerator[list[Numbered] | None, None]:
    """Wait for the end, if it still runs somewhere else, and tell the rest at once. `look` is None: it was deleted."""
    said = monotonic()
    while found := await in_database_thread(look)():
        if found.events is not None:
            if numbered := rest(found.last_seq, found.events, after):
                yield numbered
            return
        if idle is not None and monotonic() - said >= idle:
            said = monotonic()
            yield None
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def rest(last_seq: int, events: Sequence[Event], after: int) -> list[Numbered]:
    """What follows number `after`. The last numbers stand for all that was said."""
    if after > last_seq:
        after = 0
    first = last_seq - len(events) + 1
    return [(seq, event) for seq, event in enumerate(events, start=first) if seq > after]
