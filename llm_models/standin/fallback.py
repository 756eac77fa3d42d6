"""Has the stand-in answer for an Ollama that is not there, until it is."""

import asyncio
import logging

from django.conf import settings

from llm_models import ollama
from llm_models.host import base_url
from llm_models.standin.server import StandinOllama

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 10.0


async def stand_in_for_ollama() -> None:
    real = base_url(settings.OLLAMA_URL)
    if await ollama.answers_at(real):
        return
    async with StandinOllama() as standin:
        ollama.use(standin.url, standin=True)
        logger.warning("No Ollama answers at %s. A STAND-IN with scripted text speaks until one does.", real)
        try:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            while not await ollama.answers_at(real):
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        finally:
            ollama.use(None)
        logger.warning("Ollama answers at %s now: the stand-in steps back.", real)
        await _last_words(standin)


async def _last_words(standin: StandinOllama) -> None:
    """What it has begun to say, it may finish."""
    while standin.stats["running"]:
        await asyncio.sleep(1)
