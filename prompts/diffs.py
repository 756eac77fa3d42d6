from difflib import unified_diff
from itertools import chain

# Texts of many short lines can be made such that difflib takes minutes.
MOST_LINES = 3_000


def diff(old: str, new: str, old_name: str, new_name: str) -> str:
    """In unified format; empty if they are the same. Of texts with very many lines: all of the old, all of the new."""
    before, after = old.split("\n"), new.split("\n")
    if old != new and max(len(before), len(after)) > MOST_LINES:
        head = [f"--- {old_name}", f"+++ {new_name}", f"@@ -1,{len(before)} +1,{len(after)} @@"]
        return "\n".join(chain(head, (f"-{line}" for line in before), (f"+{line}" for line in after)))
    return "\n".join(unified_diff(before, after, old_name, new_name, lineterm=""))
