"""The formats in which a conversation goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from conversations.models import Conversation
from exports import documents, html, markdown, saved


@dataclass(frozen=True, slots=True)
class Writer:
    render: Callable[[Conversation, bool], Iterator[bytes]]
    """The file in pieces. The second argument: all branches, or the active path. Our own JSON always has all."""
    extension: str
    content_type: str


def _document(conversation: Conversation, branches: bool) -> Iterator[bytes]:
    return documents.render(conversation, saved.read(saved.tree(conversation)))


WRITERS = {
    "json": Writer(_document, "json", "application/json"),
    "markdown": Writer(markdown.render, "md", "text/markdown; charset=utf-8"),
    "html": Writer(html.render, "html", "text/html; charset=utf-8"),
}
