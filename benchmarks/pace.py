from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How long the benchmarks take over it."""

    is_quick: bool = False
    is_full: bool = False
    """Also what takes minutes and the network: a fresh installation."""

    def pick(self, usual: T, quick: T) -> T:
        return quick if self.is_quick else usual

    @property
    def rounds(self) -> int:
        return self.pick(3, 1)
