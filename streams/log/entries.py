"""Events as an entry of a Redis stream holds them: JSON, neighbours of one class together."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import orjson

from streams.events import Event, class_named


def encode(events: Sequence[Event]) -> bytes:
    return orjson.dumps([_encoded(kind, list(alike)) for kind, alike in groupby(events, type)])


def decode(encoded: bytes) -> list[Event]:
    runs: list[tuple[str, list[list[Any]]]] = orjson.loads(encoded)
    return [class_named(name)(*values) for name, each_values in runs for values in each_values]


def _encoded(kind: type[Event], alike: list[Event]) -> list[Any]:
    names: tuple[str, ...] = kind.__match_args__
    return [kind.class_name(), [[getattr(event, name) for name in names] for event in alike]]
