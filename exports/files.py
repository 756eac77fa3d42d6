"""Exports as files on disk: each is there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from conversations.models import Conversation
from exports.bulk import entry_name
from exports.writers import Writer


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Written beside and renamed at the end, so that a file that was there stays as long as there is no new one."""
    beside = path.with_name(f".{path.name[:50]}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, content: Iterable[bytes]) -> None:
    with whole(path) as file:
        file.writelines(content)


def write_conversation(folder: Path, conversation: Conversation, writer: Writer, branches: bool) -> None:
    """Its file bears the time of its last activity."""
    path = folder / entry_name(conversation, writer)
    write(path, writer.file(conversation, branches))
    moment = conversation.updated_at.timestamp()
    os.utime(path, (moment, moment))


def is_written(folder: Path, conversation: Conversation, writer: Writer) -> bool:
    """Whether its file is there, and nothing has happened in it since."""
    try:
        written = (folder / entry_name(conversation, writer)).stat().st_mtime
    except FileNotFoundError:
        return False
    return abs(written - conversation.updated_at.timestamp()) < 0.001
