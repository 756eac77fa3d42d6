"""Typed readers of environment variables. A value that does not fit stops the start with its name.

An empty one is as good as none: Compose files pass those.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

TRUE = {"1", "true", "on"}
FALSE = {"0", "false", "off"}


def env_str(name: str, default: str) -> str:
    return os.environ.get(name) or default


def env_bool(name: str, default: bool) -> bool:
    value = os.environ.get(name)
    if not value:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is not a boolean: say true or false.")


def env_int(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number from 0 upwards.")
    return number


def env_list(name: str, default: list[str]) -> list[str]:
    """Comma-separated; blanks around the items do not count."""
    value = os.environ.get(name)
    if not value:
        return default
    return [item.strip() for item in value.split(",") if item.strip()]


def env_choice(name: str, default: str, choices: set[str]) -> str:
    value = os.environ.get(name) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name}={value!r} is none of {', '.join(sorted(choices))}.")
    return value


def env_secret(name: str, keep_in: Path) -> str:
    """The variable, or what the file named by `<name>_FILE` holds, or a key made once and kept in `keep_in`."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        return _secret_in(Path(path), f"{name}_FILE")
    return _kept_secret(keep_in)


def _secret_in(path: Path, name: str) -> str:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ImproperlyConfigured(f"{name}: cannot read a secret from {path} ({exc}).") from exc
    if not secret:
        raise ImproperlyConfigured(f"{name}: there is nothing in {path}.")
    return secret


def _kept_secret(path: Path) -> str:
    if not path.exists():
        try:
            _make_secret(path)
        except OSError as exc:
            raise ImproperlyConfigured(
                f"Cannot keep a secret key in {path} ({exc}). Set SECRET_KEY or DATA_DIR."
            ) from exc
    return path.read_text()


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:  # readable by its owner only
        draft.write(get_random_secret_key())
        draft.flush()
        # A link appears whole or not at all: of two processes that start at once, both read the same key.
        with contextlib.suppress(FileExistsError):
            os.link(draft.name, path)
