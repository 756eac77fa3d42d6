import re
from collections.abc import Collection
from itertools import count

from django.utils.crypto import get_random_string
from django.utils.text import slugify

LONGEST = 100
SLUG = re.compile(rf"[-a-zA-Z0-9_]{{1,{LONGEST}}}")

ROOM_FOR_NUMBER = 10
LETTERS_AND_DIGITS = "abcdefghijkmnpqrstuvwxyz23456789"


def slug_for(name: str) -> str:
    """Of a name. One that has no letter from a to z and no digit, as in Chinese, gets one by chance."""
    slug = slugify(name)[: LONGEST - ROOM_FOR_NUMBER].strip("-_")
    return slug or f"template-{get_random_string(6, LETTERS_AND_DIGITS)}"


def numbered(slug: str, taken: Collection[str]) -> str:
    """This one if it is free, else the first free of slug-2, slug-3 …"""
    if slug not in taken:
        return slug
    base = slug[: LONGEST - ROOM_FOR_NUMBER]
    return next(each for number in count(2) if (each := f"{base}-{number}") not in taken)
