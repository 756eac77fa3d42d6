from collections import Counter
from collections.abc import Iterable

DEFAULT = "General"

# Suggestions: a category is free text.
SUGGESTED = (
    DEFAULT,
    "Programming",
    "Creative",
    "Technical",
    "Data",
    "Education",
    "Business",
    "Research",
    "Marketing",
    "Science",
    "Philosophy",
    "Productivity",
    "Language",
)

_SPELLINGS = {category.casefold(): category for category in SUGGESTED}


def spelled(category: str) -> str:
    """On one line, and the suggested ones as we write them."""
    line = " ".join(category.split())
    return _SPELLINGS.get(line.casefold(), line)


def counted(categories: Iterable[str]) -> list[dict[str, str | int]]:
    """How many there are of each, by name. What differs by upper and lower case only is one category."""
    spellings: dict[str, str] = {}
    counts = Counter[str]()
    for category in categories:
        spellings.setdefault(category.casefold(), category)
        counts[category.casefold()] += 1
    return [{"name": spellings[key], "count": count} for key, count in sorted(counts.items())]
