"""All kinds of runs, for what begins and ends with the server."""

from typing import Any

from chat import reaper
from chat.engine import engine as replies
from streams.engine import Engine

engines: list[Engine[Any]] = [replies]


def reap() -> int:
    """End what a process that is no more has left running, and give how many there were."""
    return reaper.reap()


def are_draining() -> bool:
    return replies.is_draining


async def drain(seconds: float) -> None:
    """Give them so long to finish."""
    await replies.drain(seconds)
