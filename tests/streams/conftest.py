from dataclasses import dataclass
from typing import ClassVar

from streams.events import Delta, Event, State


@dataclass(frozen=True, slots=True)
class Said(Delta):
    name: ClassVar = "said"

    loud: str
    low: str = ""


@dataclass(frozen=True, slots=True)
class Sung(Delta):
    name: ClassVar = "sung"

    text: str


@dataclass(frozen=True, slots=True)
class Happened(Event):
    name: ClassVar = "happened"

    what: int


@dataclass(frozen=True, slots=True)
class Stood(State):
    name: ClassVar = "stood"

    at: int


@dataclass(frozen=True, slots=True)
class Over(Event):
    name: ClassVar = "over"
    is_last: ClassVar = True


@dataclass(frozen=True, slots=True)
class SoFar(Event):
    """Stands for all up to this number."""

    name: ClassVar = "so_far"

    number: int
