"""What a client can be told: the base of every run's events."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeAlias

_classes: dict[str, type["Event"]] = {}


def class_named(name: str) -> type["Event"]:
    return _classes[name]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, under the name that stands on the wire."""

    name: ClassVar[str]
    is_last: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        # Not super(): a dataclass with slots is made a second time, and the second stays.
        _classes[cls.class_name()] = cls

    @classmethod
    def class_name(cls) -> str:
        """What it is called among processes, for different kinds of runs tell different things under one name."""
        return f"{cls.__module__}.{cls.__qualname__}"

    def as_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Delta(Event):
    """A piece of growing texts: all its fields are text, and neighbours say the same when joined field by field."""

    @classmethod
    def joined(cls, deltas: Sequence[Self]) -> Self:
        return cls(*("".join([getattr(delta, field.name) for delta in deltas]) for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class State(Event):
    """How things stand: of neighbours, only the last is still worth telling."""


Numbered: TypeAlias = tuple[int, Event]
