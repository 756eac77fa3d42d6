"""From a conversation's path to the messages sent to Ollama, and an account of what was left out.

Ollama cuts a prompt that does not fit without saying so (docs/architecture.md, "Context"). We cut first, and tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from conversations.models import Message

BYTES_PER_TOKEN = 4  # of UTF-8: near enough for English and code, and CJK comes out at 0.75 tokens a character
TOKENS_PER_MESSAGE = 5  # the template's marks around it
TOKENS_PER_IMAGE = 768  # what Ollama counts for one

LARGEST_RESERVE = 2048
CORRECTIONS = (0.5, 3.0)


@dataclass(frozen=True, slots=True)
class Account:
    """What was sent, what was not, and how large it was held to be. Tokens; messages without the system prompt."""

    kept_messages: int
    dropped_messages: int
    estimated_tokens: int
    window_tokens: int
    reserved_tokens: int
    correction_percent: int


@dataclass(frozen=True, slots=True)
class Context:
    messages: list[dict[str, Any]]
    account: Account


def fit(
    system_prompt: str,
    path: Sequence[Message],
    *,
    path_length: int,
    window: int,
    num_predict: int | None = None,
    most_messages: int = 0,
    correction: float = 1.0,
) -> Context:
    """The system prompt and the newest messages that fit the window less room for the reply; always the last one.

    `path` is oldest first and may be the end of a longer path of `path_length` messages. `correction` is how many
    tokens Ollama has counted for each that we had estimated.
    """
    reserve = reserve_for_reply(window, num_predict)
    used = estimate(system_prompt) if system_prompt else 0
    kept: list[Message] = []
    for message in reversed([message for message in path if message.status != Message.Status.FAILED]):
        size = estimate_message(message)
        full = ceil((used + size) * correction) > window - reserve
        if kept and (full or len(kept) == most_messages):
            break
        used += size
        kept.append(message)
    failed = sum(message.status == Message.Status.FAILED for message in path)
    account = Account(
        kept_messages=len(kept),
        dropped_messages=path_length - failed - len(kept),
        estimated_tokens=ceil(used * correction),
        window_tokens=window,
        reserved_tokens=reserve,
        correction_percent=round(correction * 100),
    )
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return Context(system + [as_ollama(message) for message in reversed(kept)], account)


def correct(account: dict[str, Any], prompt_tokens: int | None) -> float:
    """How far an earlier estimate of the same conversation was off, going by the tokens that Ollama counted."""
    if not prompt_tokens or not account.get("estimated_tokens"):
        return 1.0
    low, high = CORRECTIONS
    correction: float = account.get("correction_percent", 100) / 100 * prompt_tokens / account["estimated_tokens"]
    return min(max(correction, low), high)


def reserve_for_reply(window: int, num_predict: int | None) -> int:
    if num_predict and num_predict > 0:
        return min(num_predict, window // 2)
    return min(window // 4, LARGEST_RESERVE)


def estimate(text: str) -> int:
    return ceil(len(text.encode()) / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE


def estimate_message(message: Message) -> int:
    tool_calls = str(message.tool_calls) if message.tool_calls else ""
    return estimate(message.content + tool_calls) + TOKENS_PER_IMAGE * len(message.images)


def as_ollama(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        said["images"] = message.images
    if message.tool_calls:
        said["tool_calls"] = message.tool_calls
    if message.role == Message.Role.TOOL:
        said |= {key: message.metadata[key] for key in ("tool_name", "tool_call_id") if key in message.metadata}
    return said
