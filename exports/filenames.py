"""Names for files, made of titles that may be anything."""

import unicodedata

from django.utils.http import content_disposition_header
from pathvalidate import sanitize_filename

LONGEST_BYTES = 150
UNTITLED = "Untitled"


def file_name(title: str, extension: str, mark: str = "") -> str:
    """One that every system takes; `mark` tells files with equal titles apart."""
    stem = stem_of(title)
    return ".".join([f"{stem}-{mark}" if mark else stem, extension])


def stem_of(title: str) -> str:
    """A name without what ends it, for a folder too."""
    shown = "".join(map(_shown, unicodedata.normalize("NFC", title)))
    name = sanitize_filename(" ".join(shown.split()), replacement_text="-", platform="universal").strip(" .-")
    return name.encode()[:LONGEST_BYTES].decode(errors="ignore").strip() or UNTITLED


def _shown(character: str) -> str:
    """Controls, and what turns the direction of writing, are not for names."""
    return " " if unicodedata.category(character).startswith("C") else character


def attachment(name: str) -> str:
    """The value of Content-Disposition: for programs that know RFC 8187, and in ASCII for those that do not."""
    header = str(content_disposition_header(as_attachment=True, filename=name))
    if name.isascii():
        return header
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem, _, extension = plain.rpartition(".")
    fallback = f"{stem.strip(' -') or UNTITLED}.{extension}"
    return header.replace("attachment; ", f'attachment; filename="{fallback}"; ', 1)
