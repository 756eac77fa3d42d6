"""What may be filled in for a variable, and how it is written into the text."""

from __future__ import annotations

import math
import re
from typing import TypedDict

from django.db import models
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

LONGEST_VALUE = 20_000

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_POINT_ZERO = re.compile(r"(?<=[0-9])\.0*\Z")
_LARGEST_WHOLE_FLOAT = 2.0**53

# Its checks, and their codes, are those of every text that comes in: no NUL, no half surrogate pair, a length.
_TEXT = serializers.CharField(allow_blank=True, trim_whitespace=False, max_length=LONGEST_VALUE)


class Type(models.TextChoices):
    TEXT = "text"
    LONG_TEXT = "long_text"
    CHOICE = "choice"
    NUMBER = "number"
    BOOLEAN = "boolean"


class Variable(TypedDict):
    """As a template's `variables` hold it, complete. A `default` of "" is none."""

    name: str
    type: str
    required: bool
    default: str | int | float | bool
    choices: list[str]
    help: str


def is_given(value: object) -> bool:
    """A form sends an empty string for what was left empty."""
    return value is not None and value != ""


def written(variable: Variable, value: object) -> str:
    """The value as it goes into the text. Raises ValidationError if it is none for this variable."""
    match variable["type"]:
        case Type.BOOLEAN:
            return _boolean(value)
        case Type.NUMBER:
            return _number(value)
        case Type.CHOICE:
            return _choice(value, variable["choices"])
        case Type.TEXT:
            return _line(value)
    return _text(value)


def _boolean(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value in ("true", "false"):
        return value
    raise ValidationError("Give true or false.", code="invalid")


def _number(value: object) -> str:
    """Digits stay as they were typed, but for a point with nothing but zeros behind it."""
    text = _text(value).strip()
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValidationError("Give a number.", code="invalid")
    return _POINT_ZERO.sub("", text)


def _choice(value: object, choices: list[str]) -> str:
    text = _text(value)
    if text not in choices:
        raise ValidationError("Give one of the choices.", code="invalid_choice")
    return text


def _line(value: object) -> str:
    text = _text(value)
    if "\n" in text or "\r" in text:
        raise ValidationError("Give a single line.", code="invalid")
    return text


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValidationError("Give a text.", code="invalid")
    text: str = _TEXT.run_validation(value if isinstance(value, str) else _digits(value))
    return text


def _digits(value: int | float) -> str:
    try:
        size = abs(float(value))
    except OverflowError:
        size = math.inf
    if not math.isfinite(size):
        raise ValidationError("This number is too large.", code="invalid")
    if isinstance(value, float) and value.is_integer() and size < _LARGEST_WHOLE_FLOAT:
        return str(int(value))
    return str(value)
