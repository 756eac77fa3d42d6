"""The names Ollama gives its models: `[host/][namespace/]model[:tag]`."""

import re

_host = r"(?:[A-Za-z0-9_][\w.:-]{0,349}/)"
_namespace = r"(?:[A-Za-z0-9_][\w-]{0,79}/)"
_part = r"[A-Za-z0-9_][\w.-]{0,79}"
_name = re.compile(rf"(?:{_host}?{_namespace})?{_part}(?::{_part})?", re.ASCII)


def is_valid(name: str) -> bool:
    return _name.fullmatch(name) is not None


def canonical(name: str) -> str:
    """One spelling for all names of the same model: `Llama3.2` is `llama3.2:latest`."""
    name = name.strip().lower()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
