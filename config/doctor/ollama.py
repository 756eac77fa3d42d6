"""Whether Ollama answers, and has a model to answer with."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django.conf import settings

from config.doctor.findings import Finding, error, ok, warning
from llm_models import ollama
from llm_models.errors import OllamaError, OllamaUnavailable


def look() -> Iterator[Finding]:
    address = _address()
    try:
        version, installed = _asked()
    except OllamaError as exc:
        yield _away(address, exc)
        return
    yield ok("Ollama", f"{version} at {address}")
    if installed:
        yield ok("models", f"{len(installed)} installed: {_some(installed)}")
    else:
        yield warning("models", "None is installed.", "Run, for example: manage.py pull_model llama3.2")


def _address() -> str:
    """Without the password that the URL may hold."""
    return ", ".join(urlsplit(base).netloc.rpartition("@")[2] for base in ollama.url().split(","))


@async_to_sync
async def _asked() -> tuple[str, list[str]]:
    try:
        return await ollama.version(), [model["name"] for model in await ollama.tags()]
    finally:
        await ollama.aclose()


def _away(address: str, exc: OllamaError) -> Finding:
    if settings.STANDIN_OLLAMA == "auto" and isinstance(exc, OllamaUnavailable):
        detail = f"None answers at {address}: the stand-in speaks in its place."
        return warning("Ollama", detail, "Start Ollama, or set OLLAMA_URL, for replies that are not made up.")
    return error("Ollama", f"At {address}: {exc.detail}", "Start it (ollama serve), and see that OLLAMA_URL is right.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
