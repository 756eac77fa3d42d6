"""What keeps a file, or an item of it, from being imported."""

# ruff: noqa: N818 (named for what happened, as the other errors are)

from rest_framework.exceptions import ParseError


class UnreadableFile(ParseError):
    """Nothing of the file can be read as JSON, JSONL or zip."""

    default_detail = "This file is neither JSON, JSONL nor a zip of such files."


class CannotImport(Exception):
    """One item is not imported: a code for programs, a sentence for people. The others are none the worse for it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
