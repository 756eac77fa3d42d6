"""What Prometheus is told of replies, when they have ended."""

from prometheus_client import Counter, Histogram

from chat.models import Generation
from chat.replay import usage
from llm_models.names import canonical

MOST_MODELS = 100
OTHER = "other"

REPLIES = Counter("colloquy_replies", "Replies that have ended.", ["model", "outcome", "code"])
REPLY = Histogram(
    "colloquy_reply_seconds",
    "From the asking to the end of a reply.",
    ["model"],
    buckets=(0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
FIRST_TOKEN = Histogram(
    "colloquy_first_token_seconds",
    "From the turn of a reply to its first token.",
    ["model"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
)
SPEED = Histogram(
    "colloquy_reply_tokens_per_second",
    "How fast a reply was written, as Ollama measured it.",
    ["model"],
    buckets=(1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400),
)
TOKENS = Counter("colloquy_tokens", "Tokens of replies that have ended, as Ollama counted them.", ["model", "kind"])
STOP = Histogram(
    "colloquy_stop_seconds",
    "From the wish to stop a reply, at whichever process, to the closing of the connection to Ollama.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

_answered: set[str] = set()


def count(ended: Generation) -> None:
    """A reply that was ended here. With its message, as it was saved."""
    model, told = _label(ended), usage(ended)
    REPLIES.labels(model, ended.status, ended.error_code).inc()
    if ended.finished_at:
        REPLY.labels(model).observe((ended.finished_at - ended.created_at).total_seconds())
    if told["time_to_first_token_ms"] is not None:
        FIRST_TOKEN.labels(model).observe(told["time_to_first_token_ms"] / 1000)
    if told["tokens_per_second"]:
        SPEED.labels(model).observe(told["tokens_per_second"])
    for kind in ("prompt", "completion"):
        TOKENS.labels(model, kind).inc(told[f"{kind}_tokens"] or 0)


def _label(ended: Generation) -> str:
    """Only names that Ollama has answered for, and not too many: people can ask for any."""
    name = canonical(ended.model_name)
    if ended.first_token_at and len(_answered) < MOST_MODELS:
        _answered.add(name)
    return name if name in _answered else OTHER
