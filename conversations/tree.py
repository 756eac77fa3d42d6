"""Walks through the message tree, in SQL that SQLite and PostgreSQL both run. Rows come back as ids: see `Message`.

Parents are set when a message is made and never change, so a walk cannot run in circles.
"""

from uuid import UUID

from django.db import connection

EVERYTHING = 1_000_000

CLIMB = """
    WITH RECURSIVE path(id, parent_id, step) AS (
        SELECT id, parent_id, 1 FROM conversations_message WHERE id = %s
        UNION ALL
        SELECT message.id, message.parent_id, step + 1
        FROM path JOIN conversations_message AS message ON message.id = path.parent_id
        WHERE step < %s AND path.id <> %s
    )
    SELECT id FROM path ORDER BY step
"""

DEPTH = """
    WITH RECURSIVE path(parent_id) AS (
        SELECT parent_id FROM conversations_message WHERE id = %s
        UNION ALL
        SELECT message.parent_id FROM path JOIN conversations_message AS message ON message.id = path.parent_id
    )
    SELECT count(*) FROM path
"""

NEWEST_BELOW = """
    WITH RECURSIVE subtree(id) AS (
        SELECT id FROM conversations_message WHERE id = %s
        UNION ALL
        SELECT message.id FROM subtree JOIN conversations_message AS message ON message.parent_id = subtree.id
    )
    SELECT id FROM subtree
    WHERE NOT EXISTS (SELECT 1 FROM conversations_message AS child WHERE child.parent_id = subtree.id)
    ORDER BY id DESC LIMIT 1
"""


def climb(start: UUID, limit: int = EVERYTHING, until: UUID | None = None) -> list[UUID]:
    """From a message up towards its root, `start` first; at most `limit` of them, ending with `until` if it is met."""
    return _ids(CLIMB, _parameter(start), limit, _parameter(until or UUID(int=0)))


def depth(start: UUID) -> int:
    """How many messages there are from the root down to this one, both counted."""
    with connection.cursor() as cursor:
        cursor.execute(DEPTH, [_parameter(start)])
        return int(cursor.fetchone()[0])


def newest_leaf(start: UUID) -> UUID:
    """The newest message at or below `start` that has no children. Ids sort by time."""
    return _ids(NEWEST_BELOW, _parameter(start))[0]


def _ids(sql: str, *parameters: UUID | str | int) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [value if isinstance(value, UUID) else UUID(value) for (value,) in cursor.fetchall()]


def _parameter(value: UUID) -> UUID | str:
    return value if connection.features.has_native_uuid_field else value.hex
