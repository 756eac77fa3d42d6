"""Filling in a template. Values are put in as they are: nothing in them is expanded or executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError

from prompts.declarations import complete
from prompts.placeholders import Placeholder, parse
from prompts.variables import Variable, is_given, written

LONGEST_RESULT = 100_000
MOST_UNKNOWN_TOLD = 100


def render(content: str, variables: Sequence[Variable], values: Mapping[str, object]) -> str:
    """The text with each placeholder replaced: by the value, its own default, or the declared default.

    Raises ValidationError that tells all that is wrong, `{"variables": {name: [ErrorDetail]}}`, or that the result
    would be too long, `{"variables": [ErrorDetail]}`.
    """
    filling = _Filling(complete(content, variables), values)
    pieces = [filling.text_of(piece) for piece in parse(content)]
    if filling.problems:
        raise ValidationError({"variables": filling.problems})
    # Counted before it is put together: thousands of places times a long value would fill the memory.
    if sum(map(len, pieces)) > LONGEST_RESULT:
        too_long = ErrorDetail(f"The text would have more than {LONGEST_RESULT} characters.", code="max_length")
        raise ValidationError({"variables": [too_long]})
    return "".join(pieces)


class _Filling:
    """What to write in which place, and, by variable, what is wrong with what was given for it."""

    def __init__(self, variables: Sequence[Variable], values: Mapping[str, object]) -> None:
        self.problems: dict[str, Any] = {}
        self._variables = {variable["name"]: variable for variable in variables}
        self._refuse_unknown(values)
        self._given = {
            name: self._written(variable, values[name])
            for name, variable in self._variables.items()
            if is_given(values.get(name))
        }
        self._defaults = {
            name: written(variable, variable["default"])
            for name, variable in self._variables.items()
            if is_given(variable["default"])
        }

    def text_of(self, piece: str | Placeholder) -> str:
        if isinstance(piece, str):
            return piece
        if piece.name in self._given:
            return self._given[piece.name]
        if piece.default is not None:
            return piece.default
        if piece.name in self._defaults:
            return self._defaults[piece.name]
        if self._variables[piece.name]["required"]:
            self.problems[piece.name] = [ErrorDetail(f"“{piece.name}” is needed.", code="required")]
        return ""

    def _written(self, variable: Variable, value: object) -> str:
        try:
            return written(variable, value)
        except ValidationError as exc:
            self.problems[variable["name"]] = exc.detail
            return ""

    def _refuse_unknown(self, values: Mapping[str, object]) -> None:
        unknown = (name for name in values if name not in self._variables)
        for name in islice(unknown, MOST_UNKNOWN_TOLD):
            there_is_none = ErrorDetail("The template has no such variable.", code="unknown_variable")
            self.problems[_printable(name)] = [there_is_none]


def _printable(name: str) -> str:
    """Half a surrogate pair cannot be sent back, and a megabyte need not be."""
    return name[:60].encode("utf-8", "replace").decode()
