"""Where a template leaves room: `{{ name }}`, `{{ name|default:"…" }}`, and `{{ "…" }}` for the quoted text itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rest_framework.exceptions import ValidationError

NAME = r"[A-Za-z_][A-Za-z0-9_]{0,49}"

# Possessive throughout (`*+`, `(?>…)`): what was read once is not tried again, so no text takes more than one pass.
_QUOTED = r'(?:[^"\\]++|\\["\\])*+'
_PLACEHOLDER = re.compile(
    r"\{\{\s*+"
    rf'(?:(?P<name>(?>{NAME}))(?:\s*+\|\s*+default\s*+:\s*+"(?P<default>{_QUOTED})")?+|"(?P<literal>{_QUOTED})")'
    r"\s*+\}\}"
)
_ESCAPED = re.compile(r'\\(["\\])')
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Placeholder:
    name: str
    default: str | None = None


def parse(content: str) -> list[str | Placeholder]:
    """Text and placeholders in turn. Raises ValidationError, `invalid_placeholder`, at the first `{{` that is none."""
    pieces: list[str | Placeholder] = []
    at = 0
    while (begin := content.find("{{", at)) >= 0:
        found = _PLACEHOLDER.match(content, begin)
        if not found:
            raise _invalid(content, begin)
        pieces += [content[at:begin], _piece(found)]
        at = found.end()
    return [*pieces, content[at:]]


def _piece(found: re.Match[str]) -> str | Placeholder:
    if found["name"] is None:
        return _unescaped(found["literal"])
    return Placeholder(found["name"], None if found["default"] is None else _unescaped(found["default"]))


def _unescaped(quoted: str) -> str:
    return _ESCAPED.sub(r"\1", quoted)


def _invalid(content: str, begin: int) -> ValidationError:
    line = content.count("\n", 0, begin) + 1
    end = content.find("}}", begin)
    if end < 0:
        wrong = f"“{_excerpt(content[begin : begin + _SHOWN])}” is never closed"
    else:
        wrong = f"“{_excerpt(content[begin : end + 2])}” is not a placeholder"
    return ValidationError(
        f'Line {line}: {wrong}. Write {{{{ name }}}} or {{{{ name|default:"…" }}}}, with \\" and \\\\ for " and \\ '
        'in quotes; {{ "{{" }} writes the braces themselves.',
        code="invalid_placeholder",
    )


def _excerpt(text: str) -> str:
    """On one line and short. Half a surrogate pair could not be sent back."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
