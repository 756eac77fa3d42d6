"""A conversation as people read it: from top to bottom, one branch after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from conversations.models import Conversation
from exports import saved
from exports.saved import Place, SavedMessage


class Turn(NamedTuple):
    """`number` of `siblings`: which of the messages with the same parent it is, in order of making."""

    message: SavedMessage
    number: int
    siblings: int
    follows: str | None
    """The id of its parent, where that is not the message right above."""


def turns(conversation: Conversation, branches: bool = False) -> Iterator[Turn]:
    """The active path; with `branches` the whole tree, each branch from where it leaves the one above it."""
    tree = saved.tree(conversation)
    shown = _branch_by_branch(tree) if branches else _path(tree, str(conversation.active_leaf_id))
    numbers = _numbers(tree)
    above = None
    for message in saved.read(shown):
        number, siblings = numbers[message.id]
        yield Turn(message, number, siblings, follows=None if message.parent_id == above else message.parent_id)
        above = message.id


def _path(tree: Sequence[Place], leaf_id: str) -> list[Place]:
    places = {place.id: place for place in tree}
    path = []
    place = places.get(leaf_id)
    while place:
        path.append(place)
        place = places.get(place.parent_id or "")
    return path[::-1]


def _branch_by_branch(tree: Sequence[Place]) -> list[Place]:
    children = _children(tree)
    ordered = []
    rest = children[None][::-1]
    while rest:
        place = rest.pop()
        ordered.append(place)
        rest += children[place.id][::-1]
    return ordered


def _numbers(tree: Sequence[Place]) -> dict[str, tuple[int, int]]:
    return {
        place.id: (number, len(siblings))
        for siblings in _children(tree).values()
        for number, place in enumerate(siblings, 1)
    }


def _children(tree: Sequence[Place]) -> defaultdict[str | None, list[Place]]:
    children = defaultdict(list)
    for place in tree:
        children[place.parent_id].append(place)
    return children
