"""How often someone did something in a minute, counted in Django's cache: by all processes together if they share it.

One counter for each minute of the clock, raised by `incr`, which is atomic in local memory and in Redis. So none of
these minutes sees more than the limit, and clients are told exactly what is left and when all of it is there again. A
log of times, as DRF keeps it, would be read and written whole at each request.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time

from django.conf import settings
from django.core.cache import cache

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
AWAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Quota:
    limit: int
    used: int
    reset_seconds: int

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def is_exceeded(self) -> bool:
        return self.used > self.limit


class Rate:
    """A limit by a setting, which says how often a minute; 0 is no limit."""

    _away_until = 0.0  # for all of them: they have one cache

    def __init__(self, name: str, setting: str) -> None:
        self._name = name
        self._setting = setting

    def count(self, who: str) -> Quota | None:
        """Once more. None: there is no limit, or nobody knows, and nobody is refused for that."""
        return self._quota(who, _raised)

    def look(self, who: str) -> Quota | None:
        return self._quota(who, lambda counter: cache.get(counter, 0))

    def _quota(self, who: str, read: Callable[[str], int]) -> Quota | None:
        limit: int = getattr(settings, self._setting)
        if not limit or monotonic() < Rate._away_until:
            return None
        window, elapsed = divmod(int(time()), WINDOW_SECONDS)
        try:
            used = read(f"rate:{self._name}:{who}:{window}")
        except Exception as exc:  # each kind of cache has its own
            # Who asks again at once would have each request wait for the same time-out.
            Rate._away_until = monotonic() + AWAY_SECONDS
            logger.warning("The cache does not answer (%s): nothing is limited for %d s", exc, AWAY_SECONDS)
            return None
        return Quota(limit, used, WINDOW_SECONDS - elapsed)


def _raised(counter: str) -> int:
    try:
        return cache.incr(counter)
    except ValueError:
        cache.add(counter, 0, WINDOW_SECONDS)  # of two at once, one does
        return cache.incr(counter)
