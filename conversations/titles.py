import re
import unicodedata

UNTITLED = "New conversation"
LONGEST = 60

# Marks that turn the direction of text around them: a title could make its neighbours read backwards.
BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
UNWANTED = re.compile(rf"(?!\s)[\x00-\x1f\x7f-\x9f{BIDI}\ufeff]")
HEADING = re.compile(r"^#{1,6} ")
FENCE = re.compile(r"(```|~~~).*")
JOINER = "\u200d"


def clean_title(text: str) -> str:
    """On one line, without control characters and direction marks. May leave nothing."""
    return " ".join(UNWANTED.sub("", text).split())


def title_from(text: str) -> str:
    """A title for a conversation that begins with this message: its first line with words. Never empty."""
    lines = [line for line in map(_plain, text.splitlines()) if _is_visible(line)]
    with_words = (line for line in lines if any(map(str.isalnum, line)))
    return _shortened(next(with_words, lines[0] if lines else UNTITLED))


def _plain(line: str) -> str:
    line = HEADING.sub("", clean_title(line))
    return "" if FENCE.fullmatch(line) else line


def _is_visible(line: str) -> bool:
    return any(unicodedata.category(character)[0] not in "CZM" for character in line)


def _shortened(line: str) -> str:
    if len(line) <= LONGEST:
        return line
    cut = LONGEST - 1
    space = line.rfind(" ", LONGEST // 2, cut + 1)
    if space > 0:
        cut = space
    else:
        # One long word, or a language that writes without spaces. What combines with its neighbour stays with it.
        while cut > 1 and (_combines(line[cut]) or line[cut - 1] == JOINER):
            cut -= 1
    return line[:cut].rstrip() + "…"


def _combines(character: str) -> bool:
    return character == JOINER or unicodedata.category(character).startswith("M")
