"""Markdown of unknown origin as safe HTML, which loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

LONGEST_HIGHLIGHTED = 100_000

TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "pre", "code", "div", "span"),
    *("em", "strong", "s", "a", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "span": {"class"}, "div": {"class"}}
ALIGNMENTS = {"text-align"}
SCHEMES = {"http", "https", "mailto"}


class Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        """A link: the picture is elsewhere, and who opens the page did not ask to call there."""
        token = tokens[index]
        alt = self.renderInlineAsText(token.children or [], options, env)
        source = str(token.attrs.get("src", ""))
        return f'<a href="{escape(source)}">{escape(alt or source)}</a>'


@cache
def _reader() -> MarkdownIt:
    # Raw HTML is shown as the text that it is.
    options = {"html": False, "highlight": _highlighted}
    return MarkdownIt("commonmark", options, renderer_cls=Renderer).enable(["table", "strikethrough"])


@cache
def _formatter() -> HtmlFormatter[str]:
    return HtmlFormatter(nowrap=True)


def to_html(text: str) -> str:
    return nh3.clean(
        _reader().render(text),
        tags=TAGS,
        attributes={**ATTRIBUTES, "th": {"style"}, "td": {"style"}},
        filter_style_properties=ALIGNMENTS,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )


def code_to_html(code: str, language: str) -> str:
    return f"<pre><code>{_highlighted(code, language, '') or escape(code)}</code></pre>"


def _highlighted(code: str, language: str, _attributes: str) -> str:
    """Empty where it is to be shown plainly."""
    lexer = _lexer(language) if len(code) <= LONGEST_HIGHLIGHTED else None
    return highlight(code, lexer, _formatter()) if lexer else ""


def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False) if language else None
    except ClassNotFound:
        return None
