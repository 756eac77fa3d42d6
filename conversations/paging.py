"""Reading a path through a conversation, a stretch at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from django.db.models import Q
from rest_framework.exceptions import NotFound

from conversations import tree
from conversations.models import Conversation, Message


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages that follow one another on the path to `leaf_id`, oldest first."""

    messages: list[Message]
    leaf_id: UUID | None
    has_before: bool
    has_after: bool


@dataclass(frozen=True, slots=True)
class PathReader:
    """Reads the path that ends at `leaf_id`, which has so many messages, and of it no more than it must."""

    conversation: Conversation
    leaf_id: UUID | None
    length: int

    @classmethod
    def active(cls, conversation: Conversation) -> Self:
        return cls._to(conversation, conversation.active_leaf_id)

    @classmethod
    def through(cls, conversation: Conversation, message: Message) -> Self:
        """The path that goes on from a message to its newest leaf."""
        return cls._to(conversation, tree.newest_leaf(message.pk))

    @classmethod
    def _to(cls, conversation: Conversation, leaf_id: UUID | None) -> Self:
        return cls(conversation, leaf_id, Message.objects.path_length(leaf_id))

    def newest(self, limit: int) -> Stretch:
        return self._read(self.length - limit, self.length)

    def before(self, anchor: Message, limit: int) -> Stretch:
        return self._read(anchor.depth - limit, anchor.depth)

    def after(self, anchor: Message, limit: int) -> Stretch:
        return self._read(anchor.depth + 1, anchor.depth + 1 + limit)

    def around(self, anchor: Message, limit: int) -> Stretch:
        """The message itself, and as many above as below it; of an even number, one more above."""
        begin = anchor.depth - limit // 2
        return self._read(begin, begin + limit)

    def holds(self, message: Message) -> bool:
        if self.leaf_id is None:
            return False
        return Message.objects.on_path(self.leaf_id, message.depth, message.depth + 1).filter(pk=message.pk).exists()

    def _read(self, begin: int, end: int) -> Stretch:
        begin, end = max(begin, 0), min(end, self.length)
        # Images are megabytes, and no list shows them.
        messages = list(Message.objects.defer("images").on_path(self.leaf_id, begin, end)) if self.leaf_id else []
        _tell_siblings(self.conversation, messages)
        return Stretch(messages, self.leaf_id, has_before=begin > 0, has_after=end < self.length)


def path_reader(conversation: Conversation, leaf: Message | None, anchor: Message | None) -> PathReader:
    """Reads the path the caller means: on from `leaf` if there is one, else the active one.

    An anchor off the active path (a search hit, say) is read on the path through itself. NotFound if it is not on the
    path to the leaf that was asked for.
    """
    reader = PathReader.through(conversation, leaf) if leaf else PathReader.active(conversation)
    if anchor is None or reader.holds(anchor):
        return reader
    if leaf:
        raise NotFound
    return PathReader.through(conversation, anchor)


def places(conversation: Conversation, *ids: UUID | None) -> list[Message | None]:
    """These messages, with no more than their place in the tree. NotFound for one that is not of this conversation."""
    wanted = {message_id for message_id in ids if message_id}
    found = Message.objects.filter(conversation=conversation).only("depth").in_bulk(wanted) if wanted else {}
    if len(found) < len(wanted):
        raise NotFound
    return [found[message_id] if message_id else None for message_id in ids]


def _tell_siblings(conversation: Conversation, messages: Iterable[Message]) -> None:
    parents = {message.parent_id for message in messages}
    of_these = Q(parent__in=parents - {None})
    if None in parents:
        of_these |= Q(parent=None)
    children = defaultdict(list)
    for child, parent in conversation.messages.filter(of_these).order_by("id").values_list("id", "parent"):
        children[parent].append(child)
    for message in messages:
        message.sibling_ids = children[message.parent_id]
