"""Which models there are, and what they can do."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypedDict

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from llm_models import ollama
from llm_models.errors import OllamaError
from llm_models.flights import once
from llm_models.window import forget_windows, trained_window

LAST_GOOD_COPY_SECONDS = 24 * 60 * 60


class Catalogue(TypedDict):
    models: list[dict[str, Any]]
    cached_at: datetime
    stale: bool


async def installed(*, refresh: bool = False) -> Catalogue:
    """The installed models, the newest first. The last good copy, said to be stale, if Ollama is away."""
    key = _cache_key()
    last: Catalogue | None = await cache.aget(key)
    if last and not refresh and _is_fresh(last):
        return last
    try:
        return await once(key, partial(_ask, key))
    except OllamaError:
        if last is None:
            raise
        return {**last, "stale": True}


async def default_model() -> str | None:
    """For those who name none: the newest model one can talk to."""
    catalogue = await installed()
    return next((model["name"] for model in catalogue["models"] if model["is_default"]), None)


async def info(name: str) -> dict[str, Any]:
    shown = await ollama.show(name)
    return {
        "name": name,
        "details": _details(shown.get("details")),
        "parameters": _text(shown.get("parameters")),
        "capabilities": _texts(shown.get("capabilities")),
        "context_length": trained_window(shown),
        "template": _text(shown.get("template")),
        "license": _text(shown.get("license")),
        "modified_at": _moment(shown.get("modified_at")),
    }


async def running() -> list[dict[str, Any]]:
    """What Ollama has loaded, as `ps` tells it."""
    return [
        {
            "name": loaded["name"],
            "size_bytes": _number(loaded.get("size")),
            "vram_bytes": _number(loaded.get("size_vram")),
            "expires_at": _moment(loaded.get("expires_at")),
            "context_length": _number(loaded.get("context_length")),
        }
        for loaded in await ollama.ps()
    ]


async def forget() -> None:
    await cache.adelete(_cache_key())
    forget_windows()


def _cache_key() -> str:
    # Another Ollama has other models: the stand-in's must not outlive it.
    return f"llm_models:installed:{hashlib.sha256(ollama.url().encode()).hexdigest()[:16]}"


def _is_fresh(copy: Catalogue) -> bool:
    return timezone.now() - copy["cached_at"] < timedelta(seconds=settings.CHAT_MODEL_CACHE_SECONDS)


async def _ask(key: str) -> Catalogue:
    models = [_entry(model) for model in await ollama.tags()]
    for model in models:
        if _can_chat(model):
            model["is_default"] = True
            break
    catalogue: Catalogue = {"models": models, "cached_at": timezone.now(), "stale": False}
    # On any thread: the one that a sensitive call would ask for may be waiting for us.
    await sync_to_async(cache.set, thread_sensitive=False)(key, catalogue, LAST_GOOD_COPY_SECONDS)
    return catalogue


def _entry(model: Mapping[str, Any]) -> dict[str, Any]:
    details = _details(model.get("details"))
    return {
        "name": model["name"],
        "display_name": model["name"],
        "description": "",
        "size_bytes": _number(model.get("size")),
        "modified_at": _moment(model.get("modified_at")),
        "digest": _text(model.get("digest")),
        "family": details["family"],
        "parameter_size": details["parameter_size"],
        "quantization": details["quantization_level"],
        "capabilities": _texts(model.get("capabilities")),
        "is_default": False,
    }


def _can_chat(model: Mapping[str, Any]) -> bool:
    # Older servers do not tell capabilities; most models can chat.
    return not model["capabilities"] or "completion" in model["capabilities"]


def _details(told: object) -> dict[str, Any]:
    details = told if isinstance(told, dict) else {}
    texts = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return {name: _text(details.get(name)) for name in texts} | {"families": _texts(details.get("families"))}


# Ollama's versions differ: what is missing or of another type is unknown, and no reason to fail.


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_text(value))
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
