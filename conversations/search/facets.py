"""What a search can be narrowed by inside the index, as words that no text has: conversation, role and model.

Role and model have their owner before them, like all words: how many messages others have does not matter. PostgreSQL
has its own reading of this (postgresql.py).
"""

from __future__ import annotations

from hashlib import md5
from uuid import UUID


def conversation(conversation_id: UUID) -> str:
    return f"c{conversation_id.hex}"


def role(owner_id: int, name: str) -> str:
    return f"{owner_id}r{name}"


def model(owner_id: int, name: str) -> str:
    """Names hold what no word can, and any length of it."""
    return f"{owner_id}m{md5(name.encode(), usedforsecurity=False).hexdigest()[:16]}"
