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
    """Reads the path that ends at `leaf_id`, and of it no more than it must."""

    conversation: Conversation
    leaf_id: UUID | None

    @classmethod
    def active(cls, conversation: Conversation) -> Self:
        return cls(conversation, conversation.active_leaf_id)

    @classmethod
    def through(cls, conversation: Conversation, message_id: UUID) -> Self:
        """The path that goes on from a message to its newest leaf."""
        return cls(conversation, tree.newest_leaf(message_id))

    def newest(self, limit: int) -> Stretch:
        climbed = self._climb(limit + 1)
        return self._stretch(climbed[:limit][::-1], has_before=len(climbed) > limit, has_after=False)

    def before(self, anchor: UUID, limit: int) -> Stretch:
        above = _above(anchor, limit + 1)
        return self._stretch(above[:limit][::-1], has_before=len(above) > limit, has_after=True)

    def after(self, anchor: UUID, limit: int) -> Stretch:
        below = self._below(anchor)
        return self._stretch(below[:limit], has_before=True, has_after=len(below) > limit)

    def around(self, anchor: UUID, limit: int) -> Stretch:
        """The message itself, and as many above as below it; of an even number, one more above."""
        upper = limit // 2
        lower = limit - 1 - upper
        above, below = _above(anchor, upper + 1), self._below(anchor)
        return self._stretch(
            [*above[:upper][::-1], anchor, *below[:lower]],
            has_before=len(above) > upper,
            has_after=len(below) > lower,
        )

    def holds(self, message_id: UUID) -> bool:
        return self._climb(until=message_id)[-1:] == [message_id]

    def _climb(self, limit: int = tree.EVERYTHING, until: UUID | None = None) -> list[UUID]:
        return tree.climb(self.leaf_id, limit, until) if self.leaf_id else []

    def _below(self, anchor: UUID) -> list[UUID]:
        """The messages below this one, nearest first."""
        return self._climb(until=anchor)[-2::-1]

    def _stretch(self, ids: list[UUID], has_before: bool, has_after: bool) -> Stretch:
        # Images are megabytes, and no list shows them.
        messages = self.conversation.messages.defer("images").in_order(ids)
        _tell_siblings(self.conversation, messages)
        return Stretch(messages, self.leaf_id, has_before, has_after)


def path_reader(conversation: Conversation, leaf: UUID | None, anchor: UUID | None) -> PathReader:
    """Reads the path the caller means: on from `leaf` if there is one, else the active one.

    An anchor off the active path (a search hit, say) is read on the path through itself. NotFound for a message that
    is not of this conversation, or an anchor that is not on the path to the leaf that was asked for.
    """
    wanted = {message_id for message_id in (leaf, anchor) if message_id}
    if wanted and conversation.messages.filter(pk__in=wanted).count() < len(wanted):
        raise NotFound
    reader = PathReader.through(conversation, leaf) if leaf else PathReader.active(conversation)
    if anchor is None or reader.holds(anchor):
        return reader
    if leaf:
        raise NotFound
    return PathReader.through(conversation, anchor)


def _above(anchor: UUID, limit: int) -> list[UUID]:
    """The messages above this one, nearest first."""
    return tree.climb(anchor, limit + 1)[1:]


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
